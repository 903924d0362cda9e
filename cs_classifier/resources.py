"""Where the shipped configuration and the default model lie.

A wheel carries them inside the package (``_bundled``); a checkout has them at its top level.
"""

from pathlib import Path
from typing import Any

import yaml

from cs_classifier.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent
_ROOTS = (_PACKAGE / "_bundled", _PACKAGE.parent)


def find(relative: str) -> Path:
    """Return the shipped file or folder ``relative`` (such as ``configs/labels.yaml``).

    Raises:
        ConfigError: neither the wheel nor the checkout holds it.
    """
    for root in _ROOTS:
        if (path := root / relative).exists():
            return path
    msg = f"{relative} is not part of this installation; reinstall cs-classifier or give a path"
    raise ConfigError(msg)


def read_yaml(path: Path) -> Any:  # noqa: ANN401
    """Parse a YAML file of plain values, with the C parser where it is built in (ten times faster).

    Raises:
        OSError: the file cannot be read.
        yaml.YAMLError: it is not YAML, or not UTF-8.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_bytes(), Loader=loader)
