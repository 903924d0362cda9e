"""Predictions of the latest distinct messages: real traffic repeats itself."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from cs_classifier.records import Message, Prediction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

LIMIT = 50_000  # messages
LENGTH = 300  # characters of a message and its context together; longer ones hardly come again
_key = json.JSONEncoder(ensure_ascii=False).encode
_PREDICTION = TypeAdapter(Prediction)


class Recent:
    """Predicts, but messages that it knows it answers from memory, the first in going out first.

    Not by last use, as a cache mostly does: then a mere look would be a change that a run which may
    be cut off has to write down. A frequent message that goes out comes back with its next row.
    """

    def __init__(
        self, predict: Callable[[Sequence[Message]], list[Prediction]], *, limit: int = LIMIT
    ) -> None:
        """Remember at most ``limit`` predictions of ``predict``."""
        self._predict, self._limit = predict, limit
        self._known: dict[Message, Prediction] = {}
        self._changes: dict[Message, Prediction | None] = {}

    def predict(self, messages: Iterable[Message]) -> dict[Message, Prediction]:
        """The prediction of each distinct message."""
        found = dict.fromkeys(messages)
        new = [message for message in found if message not in self._known]
        scored = dict(zip(new, self._predict(new), strict=True)) if new else {}
        answers = {
            message: scored[message] if message in scored else self._known[message]
            for message in found
        }
        short = {m: p for m, p in scored.items() if len(m.text) + len(m.context) <= LENGTH}
        self._known |= short
        self._note(short)
        old = list(islice(self._known, max(0, len(self._known) - self._limit)))
        for message in old:
            del self._known[message]
        self._note(dict.fromkeys(old))
        return answers

    def _note(self, changes: Mapping[Message, Prediction | None]) -> None:
        for message, prediction in changes.items():
            self._changes.pop(message, None)  # the order is that of the last change
            self._changes[message] = prediction

    def changes(self) -> dict[str, str | None]:
        """What was learned and forgotten (``None``) since the last call, as text."""
        changes, self._changes = self._changes, {}
        return {
            _key([m.text, m.context]): None
            if prediction is None
            else _PREDICTION.dump_json(prediction).decode()
            for m, prediction in changes.items()
        }

    def restore(self, items: Iterable[tuple[str, str]]) -> None:
        """Take up what :meth:`changes` gave, the oldest first."""
        for key, value in items:
            self._known[Message(*json.loads(key))] = _PREDICTION.validate_json(value)
