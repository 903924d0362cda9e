"""The errors that a user can meet; each message says what is wrong and what to do."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class CsClassifierError(Exception):
    """Base of all errors raised on purpose; the command line prints it without a traceback."""


class ConfigError(CsClassifierError):
    """A configuration file or value is not valid."""


class LabelError(CsClassifierError):
    """A label or clause is not in the label set."""


class DataError(CsClassifierError):
    """An input file or row cannot be used."""


class ArtifactError(CsClassifierError):
    """A model folder is missing, damaged or from another format version."""


class MissingExtraError(CsClassifierError):
    """An optional dependency is needed."""

    def __init__(self, extra: str, package: str) -> None:
        """Name the extra that brings ``package``."""
        super().__init__(
            f"this needs the package '{package}', which is not installed. "
            f"Install it, in the folder of this project, with: pip install '.[{extra}]'"
        )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's errors in the block into one that names ``path``.

    Raises:
        DataError: ``path`` cannot be written.
    """
    try:
        yield
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror or error}"
        raise DataError(msg) from error
