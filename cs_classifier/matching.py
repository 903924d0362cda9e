"""Many patterns over one text in linear time (RE2; Cox 2010, "Regular Expression Matching")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import re2

from cs_classifier.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


MEMORY = 1 << 28  # bytes that the automaton of a pattern may take


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

    One pass looks for the literals that the patterns cannot do without (RE2's ``FilteredRE2``);
    only patterns whose literals are there, or that have none, are then searched.
    """

    def __init__(self, patterns: Sequence[str], where: str) -> None:
        """Compile ``patterns``; ``where`` names them in errors.

        Raises:
            ConfigError: RE2 rejects a pattern.
        """
        self._filters = list(_filters(patterns, where))
        self._home = [(f, i) for f, size in self._filters for i in range(size)]

    def __getitem__(self, number: int) -> Any:  # noqa: ANN401
        """One compiled pattern."""
        home, index = self._home[number]
        return home.re(index)

    def matching(self, text: str) -> list[int]:
        """Sorted numbers of the patterns that occur in ``text``."""
        if not text:
            return []
        data = text.encode("utf-8", "surrogatepass")
        found, first = [], 0
        for home, size in self._filters:
            found += [first + index for index in home.Match(data) or ()]
            first += size
        return found


def _filters(patterns: Sequence[str], where: str) -> Iterator[tuple[Any, int]]:
    """Filters over ``patterns`` in order, each with its size; halved where one grows too large."""
    if not patterns:
        return
    whole = re2.Filter()
    for pattern in patterns:
        try:
            whole.Add(f"(?i){pattern}", _options())
        except re2.error as error:
            msg = f"{where}: pattern {pattern!r} is not valid RE2 syntax: {error}"
            raise ConfigError(msg) from error
    try:
        whole.Compile()
    except re2.error as error:  # the literals' automaton has a fixed budget of memory
        if len(patterns) == 1:
            msg = f"{where}: pattern {patterns[0]!r} has too many alternatives; split it"
            raise ConfigError(msg) from error
        middle = len(patterns) // 2
        yield from _filters(patterns[:middle], where)
        yield from _filters(patterns[middle:], where)
    else:
        yield whole, len(patterns)
