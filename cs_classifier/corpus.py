"""Check and describe a collection of labelled lines: what ``cs-classifier data check`` does.

A corpus is a folder with one folder per split. What must hold: every line is well-formed
(:func:`cs_classifier.datasets.load`), clauses fit labels, nothing is repeated, no group and no
near-duplicate stands in two splits, and the lines of a context-swap group differ in their labels.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from cs_classifier import datasets
from cs_classifier.errors import DataError, MissingExtraError
from cs_classifier.normalize import default_normalizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from cs_classifier.labels import LabelSet
    from cs_classifier.records import LabelledMessage, Message

NEAR = 0.7  # Jaccard similarity of character 3-grams from which two lines are near-duplicates
SHORT = 6  # characters; such replies hang on the context
SWAP = "context_swap"
DERIVED = frozenset({"evasion"})  # respelt lines of the test split, so near to it by construction

_HAN = "[\u4e00-\u9fff]"
_EMOJI = re.compile("[\u2600-\u27bf\U0001f300-\U0001faff]")
_PUNCTUATION = re.compile("[,.!?;:~\u3001\u3002\uff01\uff0c\uff0e\uff1a\uff1b\uff1f\uff5e\u2026]")
_PARTICLE = re.compile("亲|[哦呢哈呀啦嘛哒滴噢喔嘞咯]")
_LATIN_INSIDE = re.compile(f"{_HAN}[a-z]{{1,8}}{_HAN}", re.IGNORECASE)
_BLOCK = 2000  # lines compared at once


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two lines of different splits that are (nearly) the same."""

    first: str
    second: str
    similarity: float


@dataclass(frozen=True, slots=True)
class ClauseCount:
    """Lines of one clause: violations, and hard negatives written near it."""

    clause: str
    violating: int
    near: int


@dataclass(frozen=True, slots=True)
class SplitCount:
    """What one split holds. Everything after ``borderline`` counts gold lines."""

    split: str
    lines: int
    borderline: int
    violating: int
    hard_negatives: int
    worlds: int
    groups: int
    grouped_lines: int  # in groups of two or more
    contrasting_groups: int  # one reply, several contexts, different labels
    respelt: int  # evasive or noisy spelling that can be recognised
    short: int
    labels: Mapping[str, int]
    clauses: tuple[ClauseCount, ...]


def load(folder: Path, label_set: LabelSet) -> dict[str, list[LabelledMessage]]:
    """Read every split of ``folder``: each folder in it that holds ``*.jsonl`` files.

    Raises:
        DataError: no split, or a line is not well-formed; with file and row.
        LabelError: unknown label or clause; with file and row.
    """
    if not folder.is_dir():
        msg = f"{folder}: no such folder"
        raise DataError(msg)
    splits = {
        path.name: datasets.load([path], label_set)
        for path in sorted(folder.iterdir())
        if path.is_dir() and path.name != "samples" and any(path.glob("*.jsonl"))
    }
    if not splits:
        msg = f"{folder}: no folder with .jsonl files in it"
        raise DataError(msg)
    return splits


def problems(splits: Mapping[str, Sequence[LabelledMessage]]) -> list[str]:
    """Everything that must not be in a corpus, one sentence each."""
    found: list[str] = []
    for split, lines in splits.items():
        # A respelt line repeats itself under other attacks, but not under the same one.
        parts = _by(lines, lambda line: line.origin) if split in DERIVED else {"": lines}
        for part in parts.values():
            found += [f"{split}: {problem}" for problem in datasets.problems(part)]
    found += _shared(splits, "group", lambda line: line.group)
    found += _shared(splits, "id", lambda line: line.id)
    found += [
        f"{pair.first} and {pair.second} are near-duplicates (similarity {pair.similarity:.2f})"
        for pair in leakage(splits)
    ]
    for group, lines in _by(splits.get(SWAP, []), lambda line: line.group).items():
        if len({line.labels for line in lines}) < 2:  # noqa: PLR2004
            found.append(f"{SWAP}: group '{group}' does not contrast: every line has one label set")
    return found


def _shared(
    splits: Mapping[str, Sequence[LabelledMessage]],
    what: str,
    key: Callable[[LabelledMessage], str],
) -> list[str]:
    """Values of ``key`` that stand in two splits."""
    where: dict[str, set[str]] = defaultdict(set)
    for split, lines in splits.items():
        for line in lines:
            where[key(line)].add(split)
    return [
        f"{what} '{value}' stands in {' and '.join(sorted(names))}"
        for value, names in where.items()
        if len(names) > 1
    ]


def leakage(
    splits: Mapping[str, Sequence[LabelledMessage]], threshold: float = NEAR
) -> list[NearDuplicate]:
    """Near-duplicates between splits; ``DERIVED`` ones are held against training and calibration.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    found = []
    for one, other in combinations(splits, 2):
        if {one, other} & DERIVED and not {one, other} & {"train", "calibration"}:
            continue
        found += [
            NearDuplicate(f"{one}/{a.id}", f"{other}/{b.id}", similarity)
            for a, b, similarity in near_duplicates(splits[one], splits[other], threshold)
        ]
    return found


def near_duplicates(
    left: Sequence[LabelledMessage], right: Sequence[LabelledMessage], threshold: float = NEAR
) -> list[tuple[LabelledMessage, LabelledMessage, float]]:
    """Pairs whose character 3-gram sets overlap by ``threshold`` or more (Jaccard).

    Computed exactly, by sparse matrix products in blocks: MinHash (Broder 1997) estimates the same
    number and pays from millions of lines on.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import HashingVectorizer
    except ImportError as error:
        msg = "evaluate"
        raise MissingExtraError(msg, "scikit-learn") from error
    if not left or not right:
        return []
    vectorizer = HashingVectorizer(
        analyzer=_grams, n_features=2**22, binary=True, norm=None, alternate_sign=False
    )
    a = vectorizer.transform(line.message for line in left)
    b = vectorizer.transform(line.message for line in right)
    sizes_a, sizes_b = a.getnnz(axis=1), b.getnnz(axis=1)
    pairs = []
    for start in range(0, a.shape[0], _BLOCK):
        shared = (a[start : start + _BLOCK] @ b.T).tocoo()
        rows = shared.row + start
        similarity = shared.data / (sizes_a[rows] + sizes_b[shared.col] - shared.data)
        near = similarity >= threshold
        pairs += [
            (left[int(i)], right[int(j)], float(s))
            for i, j, s in zip(rows[near], shared.col[near], similarity[near], strict=True)
        ]
    return pairs


def _grams(message: Message) -> set[str]:
    """Character 3-grams of context and text, spaces and punctuation left out."""
    text = datasets.duplicate_key(message)
    return {text[i : i + 3] for i in range(max(1, len(text) - 2))}


def count(split: str, lines: Sequence[LabelledMessage], label_set: LabelSet) -> SplitCount:
    """Count what ``lines`` hold."""
    gold = datasets.gold(lines)
    groups = _by(gold, lambda line: line.group)
    positives: Counter[str] = Counter()
    near: Counter[str] = Counter()
    for line in gold:
        (positives if line.labels else near).update(line.clauses)
    return SplitCount(
        split=split,
        lines=len(lines),
        borderline=len(lines) - len(gold),
        violating=sum(bool(line.labels) for line in gold),
        hard_negatives=sum(bool(line.clauses) and not line.labels for line in gold),
        worlds=len({line.origin for line in lines}),
        groups=len(groups),
        grouped_lines=sum(len(members) for members in groups.values() if len(members) > 1),
        contrasting_groups=sum(_contrasts(members) for members in groups.values()),
        respelt=sum(is_respelt(line.message.text) for line in gold),
        short=sum(len(line.message.text) <= SHORT for line in gold),
        labels={label: sum(label in line.labels for line in gold) for label in label_set.ids},
        clauses=tuple(
            ClauseCount(clause, positives[clause], near[clause]) for clause in label_set.clauses
        ),
    )


def _by(
    lines: Iterable[LabelledMessage], key: Callable[[LabelledMessage], str]
) -> dict[str, list[LabelledMessage]]:
    parts: dict[str, list[LabelledMessage]] = defaultdict(list)
    for line in lines:
        parts[key(line)].append(line)
    return parts


def _contrasts(lines: Sequence[LabelledMessage]) -> bool:
    """Whether two lines of a group have the same reply, different contexts, different labels."""
    labels: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for line in lines:
        labels[datasets.duplicate_key(line.message).rpartition("\x1f")[2]].add(line.labels)
    return any(len(found) > 1 for found in labels.values())


def is_respelt(text: str) -> bool:
    """Whether a line carries evasive or noisy spelling that can be recognised.

    That is: the normaliser undoes something beyond full-width punctuation, or Latin letters stand
    between Han characters. Homophone typos are not recognised, so a count is a lower bound.

    >>> is_respelt("加薇❤️ 聊"), is_respelt("开fa票吗"), is_respelt("亲,今天发货哦")
    (True, True, False)
    """
    steps = {step.name for step in default_normalizer()(text).steps} - {"nfkc", "invisible"}
    return bool(steps) or bool(_LATIN_INSIDE.search(text))


def describe(messages: Sequence[Message]) -> dict[str, float]:
    """Figures of style, to hold a corpus against real traffic.

    Returns:
        Character lengths (median, 10th and 90th percentile, 99th) and shares of lines.

    Raises:
        DataError: no lines.
    """
    if not messages:
        msg = "no lines to describe"
        raise DataError(msg)
    texts = [message.text for message in messages]
    lengths = np.array([len(text) for text in texts])
    low, median, high, most = np.quantile(lengths, [0.1, 0.5, 0.9, 0.99])
    shares = {
        "with context": [bool(message.context) for message in messages],
        "without punctuation": [not _PUNCTUATION.search(text) for text in texts],
        "with 亲 or a particle": [bool(_PARTICLE.search(text)) for text in texts],
        "beginning with 亲": [text.startswith("亲") for text in texts],
        "with emoji": [bool(_EMOJI.search(text)) for text in texts],
        "with digits": [bool(re.search(r"\d", text)) for text in texts],
        f"of at most {SHORT} characters": [len(text) <= SHORT for text in texts],
        "respelt": [is_respelt(text) for text in texts],
    }
    figures = {"lines": len(texts), "length p10": low, "length median": median}
    figures |= {"length p90": high, "length p99": most}
    return {k: float(v) for k, v in figures.items()} | {
        f"share {name}": float(np.mean(values)) for name, values in shares.items()
    }
