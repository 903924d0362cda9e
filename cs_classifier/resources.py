"""Where the shipped configuration and the default model lie.

A wheel carries them inside the package (``_bundled``); a checkout has them at its top level. Files
in the folder that ``$CS_CLASSIFIER_CONFIGS`` names take the place of those in ``configs/``.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from cs_classifier.errors import ConfigError

CONFIGS = "CS_CLASSIFIER_CONFIGS"  # a folder of the user's own configuration files
_PACKAGE = Path(__file__).resolve().parent
_ROOTS = (_PACKAGE / "_bundled", _PACKAGE.parent)


def find(relative: str) -> Path:
    """Return the file or folder ``relative`` (such as ``configs/labels.yaml``), the user's first.

    Raises:
        ConfigError: neither the wheel nor the checkout holds it.
    """
    own = os.environ.get(CONFIGS)
    if own and relative.startswith("configs/"):
        if not Path(own).is_dir():
            msg = f"{CONFIGS} names {own}, which is not a folder"
            raise ConfigError(msg)
        if (path := Path(own) / relative.removeprefix("configs/")).exists():
            return path
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
