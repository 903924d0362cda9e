"""Finds rule violations in what Chinese e-commerce customer-service agents write.

>>> from cs_classifier import Message, load
>>> pipeline = load()                                                       # doctest: +SKIP
>>> pipeline.predict([Message("只有收据哈", context="要发票")])[0].outcomes[0]  # doctest: +SKIP
'violation'
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cs_classifier.artifact import load
    from cs_classifier.pipeline import Pipeline
    from cs_classifier.records import Message, Prediction

__all__ = ["Message", "Pipeline", "Prediction", "__version__", "load"]

try:
    __version__ = version("cs-classifier")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"

_HOMES = {
    "load": "artifact",
    "Pipeline": "pipeline",
    "Message": "records",
    "Prediction": "records",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the public names when they are first used; importing the package stays light."""
    if name not in _HOMES:
        msg = f"module 'cs_classifier' has no attribute '{name}'"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(f"cs_classifier.{_HOMES[name]}"), name)
