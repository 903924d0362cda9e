"""What reviewers typed, as reviews: tolerant of spelling, strict about meaning."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cs_classifier.errors import DataError
from cs_classifier.reviews import NONE, VERDICTS, Review, Sampled, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cs_classifier.labels import LabelSet

SEPARATOR = "、"  # between the labels of a correction

_SEPARATORS = re.compile(r"[、,，;；|/+\n]+")
_MOST = 10  # problems that one error names
_SHOWN = 30  # characters of a wrong answer in an error
_SPELLINGS: dict[Verdict, tuple[str, ...]] = {
    "confirmed": ("confirm", "对", "是", "正确", "属实", "√", "yes", "y"),
    "rejected": ("reject", "错", "否", "不是", "错判", "误报", "×", "no", "n"),
    "doubtful": ("doubt", "不确定", "待定", "疑问", "?", "unsure"),
}
_NO_LABEL = (NONE, "none", "没有", "无违规", "合规")


def folded(text: str) -> str:
    """The text without white space, width and case, for comparing what people type.

    >>> folded(" 确 认 "), folded("会话ＩＤ")
    ('确认', '会话id')
    """
    return "".join(unicodedata.normalize("NFKC", text).split()).casefold()


_VERDICT_OF: dict[str, Verdict] = {
    folded(spelling): verdict
    for verdict, more in _SPELLINGS.items()
    for spelling in (verdict, VERDICTS[verdict], *more)
}
_NO_LABEL_FOLDED = frozenset(map(folded, _NO_LABEL))


@dataclass(frozen=True, slots=True)
class Answer:
    """The cells that a reviewer fills, as typed."""

    verdict: str = ""
    correction: str = ""
    annotator: str = ""
    note: str = ""
    appeal: str = ""


def review(sampled: Sampled, answer: Answer, *, label_set: LabelSet) -> Review:
    """The review that an answer gives of a line.

    A correction without a verdict is an answer too: "confirmed" if it names the shown labels.

    Raises:
        DataError: an unknown verdict or label, or a verdict and a correction that do not go
            together; the message says what to type.
    """
    verdict = verdict_of(answer.verdict)
    correction = labels_of(answer.correction, label_set=label_set)
    if verdict is None and correction is not None:
        verdict = "confirmed" if set(correction) == set(sampled.shown) else "rejected"
    else:
        _check(sampled, verdict, correction)
    rest = (answer.annotator.strip(), answer.note.strip(), answer.appeal.strip())
    return Review(sampled, verdict, correction, *rest)


def verdict_of(text: str) -> Verdict | None:
    """The verdict that was typed; ``None`` if nothing was.

    Raises:
        DataError: it is none of the known words.
    """
    key = folded(text)
    if key and key not in _VERDICT_OF:
        known = ", ".join(VERDICTS.values())
        msg = f"unknown verdict '{text.strip()[:_SHOWN]}'; choose one of {known}"
        raise DataError(msg)
    return _VERDICT_OF.get(key)


def labels_of(text: str, *, label_set: LabelSet) -> tuple[str, ...] | None:
    """The labels that were typed, in label order, by id or name; ``None`` if nothing was.

    Raises:
        DataError: one is not in the set, or stands beside "no label".
    """
    ids = {
        folded(name): label.id
        for label in label_set.labels
        for name in (label.id, label.zh, label.en)
    }
    whole = folded(text)
    # A label's own name may hold a separator.
    parts = [whole] if whole in ids else [folded(part) for part in _SEPARATORS.split(text)]
    parts = [part for part in parts if part]
    none = [part for part in parts if part in _NO_LABEL_FOLDED]
    if strange := [part for part in parts if part not in ids and part not in none]:
        known = ", ".join([*(label.zh for label in label_set.labels), NONE])
        wrong = strange[0][:_SHOWN]
        msg = f"unknown label '{wrong}'; choose from {known}, several joined by {SEPARATOR}"
        raise DataError(msg)
    if none and len(none) < len(parts):
        msg = f"the correction holds both '{NONE}' and a label; leave one of them"
        raise DataError(msg)
    found = {ids[part] for part in parts if part in ids}
    return tuple(i for i in label_set.ids if i in found) if parts else None


def _check(sampled: Sampled, verdict: Verdict | None, correction: tuple[str, ...] | None) -> None:
    """Refuse answers that mean two things: taken either way they would falsify the estimates."""
    if verdict == "rejected" and correction is None and not sampled.shown:
        msg = f"{VERDICTS[verdict]} of a line without suspicion; name its labels, or {NONE}"
    elif verdict == "rejected" and correction and set(correction) == set(sampled.shown):
        msg = f"{VERDICTS[verdict]}, but the correction names the suspected labels; clear one"
    elif verdict == "confirmed" and correction == () and sampled.shown:
        msg = f"{VERDICTS[verdict]}, but the correction is '{NONE}'; clear one of them"
    else:
        return
    raise DataError(msg)


@dataclass(frozen=True, slots=True)
class Found:
    """A review and where it stands: the file, and row or task in it."""

    review: Review
    file: str
    place: str


def collect(file: str, places: Iterable[tuple[str, Callable[[], Review]]]) -> Iterator[Found]:
    """Read all places of a file, so that one error names everything that is to be put right.

    Raises:
        DataError: at the end, if a place could not be read; names the first ten.
    """
    problems: list[str] = []
    for place, read in places:
        try:
            yield Found(read(), file, place)
        except DataError as error:
            problems.append(f"{place}: {error}")
    if problems:
        more = f"\n… and {len(problems) - _MOST} more" * (len(problems) > _MOST)
        raise DataError(f"{file}, " + f"\n{file}, ".join(problems[:_MOST]) + more)


def merge(found: Sequence[Found]) -> list[Review]:
    """One review per line and annotator, in the order of their first appearance.

    Copies of an answer are one, with the last note and appeal that were typed; an open row gives
    way to an answer. A nameless annotator is whoever filled that file.

    Raises:
        DataError: one annotator gave one line two different answers; names both places.
    """
    lines: dict[Sampled, dict[str, Found]] = {}
    for item in found:
        answered = lines.setdefault(item.review.sampled, {})
        who = item.review.annotator or f"\0{item.file}"
        earlier = answered.get(who)
        answered[who] = item if earlier is None else _later(earlier, item)
    return [item.review for answered in lines.values() for item in _decided(answered)]


def _later(earlier: Found, item: Found) -> Found:
    """One annotator's two copies as one: the verdict of either, the last note and appeal."""
    old, new = earlier.review, item.review
    both = old.verdict is not None and new.verdict is not None
    if both and (old.verdict, old.correction) != (new.verdict, new.correction):
        msg = (
            f"{item.file}, {item.place}: another answer to the same line than "
            f"{earlier.file}, {earlier.place}; keep one of them"
        )
        raise DataError(msg)
    kept = old if new.verdict is None else new
    review = replace(kept, note=new.note or old.note, appeal=new.appeal or old.appeal)
    return Found(review, item.file, item.place)


def _decided(answered: dict[str, Found]) -> list[Found]:
    """The answers to a line, an appeal among them; one open review if there is none."""
    items = list(answered.values())
    given = [item for item in items if item.review.verdict is not None or item.review.appeal]
    return given or items[:1]
