"""Many patterns over one text in linear time (RE2; Cox 2010, "Regular Expression Matching")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import re2

from cs_classifier.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


MEMORY = 1 << 28  # bytes that the automaton of a pattern group may take
GROUP = 4  # patterns; measured best between a cold start and a long run


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
    """Finds which of many patterns occur in a text.

    The patterns are searched in groups: RE2 builds the automaton of a group while it reads, and one
    automaton for hundreds of patterns would spend seconds on states before it pays.
    """

    def __init__(self, patterns: Sequence[str], where: str) -> None:
        """Check ``patterns`` and build the groups; ``where`` names them in errors."""
        self._sources, self._where = tuple(patterns), where
        self._compiled: dict[int, Any] = {}
        self._groups = []
        for first in range(0, len(patterns), GROUP):
            group = re2.Set.SearchSet(_options())
            for pattern in patterns[first : first + GROUP]:
                try:
                    group.Add(f"(?i){pattern}")
                except re2.error as error:
                    msg = f"{where}: pattern {pattern!r} is not valid RE2 syntax: {error}"
                    raise ConfigError(msg) from error
            group.Compile()
            self._groups.append((first, group))

    def __getitem__(self, number: int) -> Any:  # noqa: ANN401
        """One pattern, compiled when it is first needed."""
        if number not in self._compiled:
            self._compiled[number] = compile_pattern(self._sources[number], self._where)
        return self._compiled[number]

    def matching(self, text: str) -> list[int]:
        """Sorted numbers of the patterns that occur in ``text``."""
        if not text:
            return []
        data = text.encode("utf-8", "surrogatepass")
        return sorted(
            first + number for first, group in self._groups for number in group.Match(data) or ()
        )
