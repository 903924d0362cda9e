"""Label Studio: tasks with pre-annotations, their labelling configuration, and the JSON export.

The formats are those of https://labelstud.io/guide/task_format and /guide/predictions. Offsets of
regions count code points there too (HumanSignal/label-studio pull request 1559).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from cs_classifier.errors import DataError
from cs_classifier.reports.review_files.answers import (
    SEPARATOR,
    Answer,
    Found,
    collect,
    labels_of,
    review,
    verdict_of,
)
from cs_classifier.reports.review_files.codec import pack, unpack
from cs_classifier.reports.review_files.lines import Display, conversation, view
from cs_classifier.reports.review_files.words import WORDS
from cs_classifier.reviews import VERDICTS
from cs_classifier.tables.formats import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cs_classifier.labels import LabelSet
    from cs_classifier.reports.wording import Language
    from cs_classifier.reviews import Review, Sampled

_ADVICE = (
    "export the project that 'cs-classifier sample' made the tasks for, as JSON (not JSON-MIN)"
)


def label_config(label_set: LabelSet, language: Language = "zh") -> str:
    """The labelling configuration (XML) that the tasks need; hints come from the label set."""
    words = WORDS[language]
    root = ET.Element("View")
    _add(
        root,
        "Paragraphs",
        name="conversation",
        value="$conversation",
        layout="dialogue",
        nameKey="speaker",
        textKey="text",
    )
    _add(root, "Header", value="$suspected")
    names = [
        (getattr(label, language), _hint(label_set, label.id, language))
        for label in label_set.labels
    ]
    regions = _add(root, "Labels", name="evidence", toName="text")
    for name, hint in names:
        _add(regions, "Label", value=name, hint=hint)
    _add(root, "Text", name="text", value="$text", valueType="text", granularity="symbol")
    _add(root, "Header", value=words["labels_head"])
    labels = _add(root, "Choices", name="labels", toName="text", choice="multiple", required="true")
    for name, hint in [*names, (words["no_label"], words["no_label"])]:
        _add(labels, "Choice", value=name, hint=hint)
    _add(root, "Header", value=f"{words['verdict_title']}{words['colon']}{words['verdict_prompt']}")
    verdicts = _add(root, "Choices", name="verdict", toName="text", choice="single-radio")
    for verdict in VERDICTS:
        _add(verdicts, "Choice", value=words[verdict])
    _add(
        root,
        "TextArea",
        name="note",
        toName="text",
        rows="2",
        maxSubmissions="1",
        placeholder=words["note"],
    )
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _add(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, tag, attributes)


def _hint(label_set: LabelSet, label: str, language: Language) -> str:
    clauses = WORDS[language]["joint"].join(getattr(c, language) for c in label_set[label].clauses)
    return f"{label_set[label].definition} {clauses}"


def tasks(sampled: Sequence[Sampled], display: Display) -> list[dict[str, Any]]:
    """The tasks to import, in the order given; blind lines have no predictions."""
    return [_task(item, display) for item in sampled]


def _task(item: Sampled, display: Display) -> dict[str, Any]:
    line, opinion = item.line, view(item, display)
    turns = conversation(line, display)
    data = {
        "key": line.key,
        "conversation_id": line.conversation_id,
        "timestamp": line.timestamp,
        "platform": line.platform,
        "shop": line.shop,
        "agent_id": line.agent_id,
        "conversation": [{"speaker": turn.head, "text": turn.text} for turn in turns],
        "context": line.context,
        "text": line.text,
        "suspected": display.words["suspected_head"] + opinion.suspected,
        "data": pack(item),
    }
    predictions = [] if item.blind else [_prediction(item, display)]
    return {"data": plain(data), "predictions": plain(predictions)}


def _prediction(item: Sampled, display: Display) -> dict[str, Any]:
    """The shown labels as choices, and the evidence as regions of the text."""
    opinion = view(item, display)
    names = display.names(item.shown) or [display.words["no_label"]]
    result: list[dict[str, Any]] = [
        {"from_name": "labels", "type": "choices", "value": {"choices": names}}
    ]
    for e in (e for e in opinion.evidence if e.start < e.end):
        span = {"start": e.start, "end": e.end, "text": e.text}
        value = {**span, "labels": display.names([e.label])}
        result.append({"from_name": "evidence", "type": "labels", "value": value})
    result = [{"id": f"r{i}", "to_name": "text", **region} for i, region in enumerate(result)]
    scored = {} if opinion.score is None else {"score": opinion.score}
    return {"model_version": item.line.model, **scored, "result": result}


def read(content: object, file: str, *, label_set: LabelSet) -> list[Found]:
    """The reviews of an export: one per annotation that was not skipped, or an open one.

    ``completed_by`` names the annotator: an e-mail address where the export has it, else a number.

    Raises:
        DataError: not such an export, or tasks that cannot be read; names them.
    """
    if not isinstance(content, list) or not all(isinstance(task, dict) for task in content):
        msg = f"{file} is not a list of tasks; {_ADVICE}"
        raise DataError(msg)
    places = (
        place
        for number, task in enumerate(content, 1)
        for place in _places(number, task, label_set)
    )
    return list(collect(file, places))


def _places(
    number: int, task: dict[str, Any], label_set: LabelSet
) -> Iterator[tuple[str, Callable[[], Review]]]:
    place = f"task {task.get('id', number)}"
    annotations = task.get("annotations") or []
    done = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]
    for annotation in done or [{}]:
        yield place, partial(_review, task, annotation, label_set)


def _review(task: dict[str, Any], annotation: dict[str, Any], label_set: LabelSet) -> Review:
    data = task.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("data"), str):
        msg = f"has no field 'data.data'; {_ADVICE}"
        raise DataError(msg)
    sampled = unpack(data["data"])
    given = _given(annotation)
    if verdict_of(given["verdict"]) == "rejected":
        # Pre-filled labels that were left as they are do not correct what was just rejected.
        labels = labels_of(given["labels"], label_set=label_set)
        given["labels"] = "" if set(labels or ()) == set(sampled.shown) else given["labels"]
    answer = Answer(
        verdict=given["verdict"],
        correction=given["labels"],
        annotator=_annotator(annotation.get("completed_by")),
        note=given["note"],
    )
    return review(sampled, answer, label_set=label_set)


def _given(annotation: dict[str, Any]) -> dict[str, str]:
    """What was chosen or written in each control, several values joined."""
    given: dict[str, list[str]] = {"labels": [], "verdict": [], "note": []}
    for region in annotation.get("result") or []:
        value = region.get("value") or {}
        texts = value.get("choices") or value.get("text") or []
        if region.get("from_name") in given:
            given[region["from_name"]] += [texts] if isinstance(texts, str) else texts
    return {name: SEPARATOR.join(map(str, texts)) for name, texts in given.items()}


def _annotator(completed_by: object) -> str:
    if isinstance(completed_by, dict):
        return str(completed_by.get("email") or completed_by.get("id") or "")
    return "" if completed_by is None else str(completed_by)
