"""The errors that a user can meet; each message says what is wrong and what to do."""


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
