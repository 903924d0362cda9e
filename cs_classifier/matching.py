"""Many patterns over one text in linear time (RE2; Cox 2010, "Regular Expression Matching")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import re2

from cs_classifier.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


MEMORY = 1 << 28  # bytes that the automaton of a pattern set may take


def compile_pattern(pattern: str, where: str) -> Any:  # noqa: ANN401
    """Compile one case-insensitive pattern.

    Raises:
        ConfigError: RE2 rejects it (look-arounds and back-references are not linear-time).
    """
    try:
        return re2.compile(f"(?i){pattern}", _options())
    except re2.error as error:
        msg = f"{where}: pattern {pattern!r} is not valid RE2 syntax: {error}"
        raise ConfigError(msg) from error


def _options() -> Any:  # noqa: ANN401
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY
    return options


class PatternSet:
    """Finds in one pass which of many patterns occur in a text."""

    def __init__(self, patterns: Sequence[str], where: str) -> None:
        """Compile ``patterns``; ``where`` names them in errors."""
        self.patterns = [compile_pattern(pattern, where) for pattern in patterns]
        self._set = re2.Set.SearchSet(_options())
        for pattern in patterns:
            self._set.Add(f"(?i){pattern}")
        if patterns:
            self._set.Compile()

    def matching(self, text: str) -> list[int]:
        """Sorted numbers of the patterns that occur in ``text``."""
        return sorted(self._set.Match(text) or ()) if self.patterns and text else []
