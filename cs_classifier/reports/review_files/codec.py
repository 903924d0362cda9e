"""A sampled line as one text that every file carries, and that no spreadsheet rewrites.

The text is compressed and in base64: short, free of characters that XML cannot hold, never taken
for a number or a formula, and opaque, so that searching a file does not tell what a blind row
hides. A checksum says whether it came back whole.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from dataclasses import asdict
from typing import Any

from cs_classifier.errors import DataError
from cs_classifier.records import Evidence
from cs_classifier.reviews import Sampled
from cs_classifier.scored import ScoredLine

_VERSION = "r1"


def pack(sampled: Sampled) -> str:
    """The text, ASCII without white space: version, checksum and content, parted by dots."""
    content = json.dumps(asdict(sampled), separators=(",", ":")).encode("ascii")
    return f"{_VERSION}.{_checksum(content)}.{base64.b64encode(zlib.compress(content)).decode()}"


def unpack(text: str) -> Sampled:
    """The line that :func:`pack` was given.

    Raises:
        DataError: the text is empty, damaged, or of another version.
    """
    version, _, rest = "".join(text.split()).partition(".")
    checksum, _, body = rest.partition(".")
    if not text or version != _VERSION:
        msg = "the hidden data is missing" if not text else "the hidden data is not of this version"
        raise DataError(msg)
    try:
        content = zlib.decompress(base64.b64decode(body, validate=True))
    except (binascii.Error, ValueError, zlib.error):
        content = b""
    if not content or _checksum(content) != checksum:
        msg = "the hidden data is damaged"
        raise DataError(msg)
    try:
        return _sampled(json.loads(content))
    except (KeyError, TypeError) as error:
        msg = "the hidden data was written by another version of cs-classifier"
        raise DataError(msg) from error


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _sampled(values: dict[str, Any]) -> Sampled:
    line = values.pop("line")
    line["evidence"] = [Evidence(**item) for item in line["evidence"]]
    return Sampled(line=ScoredLine(**_frozen(line)), **_frozen(values))


def _frozen(values: dict[str, Any]) -> dict[str, Any]:
    """Lists become tuples, as the values hold them."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
