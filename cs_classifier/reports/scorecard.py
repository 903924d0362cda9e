"""Scorecards as one offline HTML page, a workbook, or JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from cs_classifier.errors import DataError
from cs_classifier.metrics import wilson
from cs_classifier.reports import scorecard_book
from cs_classifier.reports.markdown import MISSING, number
from cs_classifier.reports.masking import hide, pseudonym, shown_key
from cs_classifier.reports.output import pieces, render, write_book, write_text
from cs_classifier.reports.scorecard_words import WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cs_classifier.labels import LabelSet
    from cs_classifier.performance.hits import Hit
    from cs_classifier.performance.penalties import ScoreRules
    from cs_classifier.performance.scorecard import Appeals, Card, Scorecard
    from cs_classifier.performance.shrinkage import Rate
    from cs_classifier.reports.output import Piece
    from cs_classifier.reports.wording import Language
    from cs_classifier.scored import ScoredLine

SUFFIXES = (".html", ".xlsx", ".json")
PER = 1000  # lines


class Report:
    """One scorecard in one language, masked or not; every format shows the same values."""

    def __init__(
        self,
        scorecard: Scorecard,
        *,
        label_set: LabelSet,
        rules: ScoreRules,
        language: Language = "zh",
        masked: bool = True,
    ) -> None:
        """Keep them; nothing is computed yet."""
        self.scorecard, self.label_set, self.rules = scorecard, label_set, rules
        self.language, self.masked, self.words = language, masked, WORDS[language]
        self.few = self.words["few"].format(minimum=scorecard.minimum[0])

    def write(self, path: Path) -> None:
        """Write by suffix; the file appears whole or not at all.

        Raises:
            DataError: another suffix, or the file cannot be written.
            MissingExtraError: jinja2 is not installed.
        """
        suffix = path.suffix.lower()
        if suffix == ".html":
            write_text(path, self.html())
        elif suffix == ".json":
            text = json.dumps(self.json(), ensure_ascii=False, indent=1, allow_nan=False)
            write_text(path, text + "\n")
        elif suffix == ".xlsx":
            write_book(path, scorecard_book.sheets(self))
        else:
            msg = f"{path}: a scorecard is written as {', '.join(SUFFIXES)}"
            raise DataError(msg)

    def show(self, text: str) -> str:
        """A customer's or agent's words as this report may show them."""
        return hide(text) if self.masked else text

    def key(self, line: ScoredLine) -> str:
        """The key of a line as this report may show it."""
        return shown_key(line.key, line.conversation_id) if self.masked else line.key

    def conversation(self, line: ScoredLine) -> str:
        """The conversation of a line as this report may show it."""
        return pseudonym(line.conversation_id) if self.masked else line.conversation_id

    def label(self, label: str) -> str:
        """Name of a label or clause; an unknown id stays as it is."""
        if label in self.label_set.ids:
            return str(getattr(self.label_set[label], self.language))
        clause = self.label_set.clauses.get(label)
        return str(getattr(clause, self.language)) if clause else label

    def clause(self, hit: Hit) -> str:
        """Name of the hit's clause; one that only the model suggests with a question mark."""
        if hit.clause or not hit.suggestion:
            return self.label(hit.clause)
        return f"{self.label(hit.suggestion)}？"

    # JSON

    def json(self) -> dict[str, Any]:
        """Everything, with rates as shares of lines."""
        card = self.scorecard
        return {
            "by": card.by,
            "rules": card.rules,
            "models": list(card.models),
            "files": list(card.files),
            "lines": card.turns,
            "unscored": card.unscored,
            "unassigned": card.unassigned,
            "design_effect": card.design_effect,
            "minimum": {"lines": card.minimum[0], "reviewed": card.minimum[1]},
            "uncorrected_labels": list(card.uncorrected),
            "masked": self.masked,
            "teams": {name: _rate_json(rate) for name, rate in card.teams.items()},
            "members": [self._member_json(member) for member in card.cards],
            "clauses": {name: _appeals_json(appeals) for name, appeals in card.clauses.items()},
            "hits": [self._hit_json(hit) for hit in card.hits],
        }

    def _member_json(self, card: Card) -> dict[str, Any]:
        figures, reviewed = card.figures, card.reviewed
        return {
            "name": card.member[0],
            "shop": card.member[1],
            "team": card.team,
            "lines": card.turns,
            "conversations": card.conversations,
            "suspected": card.suspected,
            "to_review": card.to_review,
            "labels": {k: {"suspected": s, "confirmed": c} for k, (s, c) in card.labels.items()},
            "mix": [
                {"platform": platform, "shift": shift, "lines": turns}
                for (platform, shift), turns in card.mix.items()
            ],
            "raw": _rate_json(figures.raw),
            "shrunken": _rate_json(figures.shrunken),
            "corrected": _rate_json(figures.corrected),
            "case_mix": _rate_json(figures.case_mix),
            "enough": figures.enough,
            "worse": figures.worse,
            "rank": list(figures.rank) if figures.rank else None,
            "ranked": figures.ranked,
            "reviewed": reviewed.decided,
            "confirmed": reviewed.confirmed,
            "confirmed_rate": _rate_json(reviewed.rate),
            "appeals": _appeals_json(card.appeals),
            "score": card.score,
            "verdict": card.verdict,
            "deductions": [
                {"clause": d.clause, "hits": d.hits, "points": d.points, "fatal": d.fatal}
                for d in card.deductions
            ],
        }

    def _hit_json(self, hit: Hit) -> dict[str, Any]:
        line = hit.line
        return {
            "key": self.key(line),
            "file": line.file,
            "row": line.row,
            "name": hit.member[0],
            "shop": line.shop,
            "conversation_id": self.conversation(line),
            "timestamp": line.timestamp,
            "label": hit.label,
            "clause": hit.clause,
            "suggested_clause": hit.suggestion,
            "severity": hit.severity,
            "state": hit.state,
            "appeal": hit.appeal,
            "provoked": hit.provoked,
            "taken_back": hit.taken_back,
            "probability": self.probability(hit),
            "rules": list(line.rules),
            "model": line.model,
            "context": self.show(line.context),
            "text": self.show(line.text),
            "evidence": self.evidence(hit),
            "reviews": [
                {"annotator": r.annotator, "verdict": r.verdict, "note": self.show(r.note)}
                for r in hit.reviews
            ],
        }

    def probability(self, hit: Hit) -> float | None:
        """The model's calibrated probability of the hit's label, if it gave one."""
        found = dict(zip(self.scorecard.label_ids, hit.line.probabilities, strict=False))
        return found.get(hit.label)

    def evidence(self, hit: Hit) -> list[str]:
        """The characters that the hit rests on."""
        return [text for text, marked in self.pieces(hit) if marked]

    def pieces(self, hit: Hit) -> list[Piece]:
        """The line, with the evidence for the hit's label marked."""
        spans = [(e.start, e.end) for e in hit.line.evidence if e.label == hit.label]
        return pieces(hit.line.text, spans, masked=self.masked)

    def flags(self, hit: Hit) -> list[str]:
        """Remarks for the reader."""
        names = {
            "provoked": hit.provoked,
            "taken_back": hit.taken_back,
            "joined": hit.line.joined,
        }
        return [self.words[name] for name, holds in names.items() if holds]

    # Page

    def html(self) -> str:
        """One page that needs nothing else; it sorts and filters by itself."""
        card = self.scorecard
        scale = max((c.figures.shrunken.high for c in card.cards), default=1)
        return render(
            "scorecard.html.j2",
            words=self.words,
            language="zh-CN" if self.language == "zh" else "en",
            by=self.words[card.by],
            facts=self.facts(),
            notes=self.notes(),
            teams=[
                (name or self.words["all"], self.per_thousand(rate))
                for name, rate in card.teams.items()
            ],
            members=[self._view(i, c, scale) for i, c in enumerate(card.cards)],
            hits=[self._hit_view(hit) for hit in card.hits],
            labels=[(label, self.label(label)) for label in card.label_ids],
            clauses=[
                (self.label(name), a.confirmed, a.appealed, a.upheld, a.pending)
                for name, a in card.clauses.items()
                if a.appealed
            ],
        )

    def facts(self) -> list[tuple[str, str]]:
        """What the scorecard rests on."""
        card = self.scorecard
        reviewed = [c.reviewed for c in card.cards]
        appeals = [c.appeals for c in card.cards]
        confirmed = sum(a.confirmed for a in appeals)
        return [
            (self.words["files"], ", ".join(card.files)),
            (self.words["model"], ", ".join(card.models)),
            (self.words["rules"], card.rules),
            (self.words["turns"], f"{card.turns:,}"),
            (self.words["members"], f"{len(card.cards):,}"),
            (self.words["suspected_lines"], f"{sum(c.suspected for c in card.cards):,}"),
            (
                self.words["confirmed_lines"],
                f"{sum(r.confirmed for r in reviewed):,} / {sum(r.decided for r in reviewed):,}",
            ),
            (self.words["appeal_rate"], _share(sum(a.appealed for a in appeals), confirmed)),
            (self.words["overturned_rate"], _share(sum(a.upheld for a in appeals), confirmed)),
            (self.words["unscored"], f"{card.unscored:,}"),
            (self.words["unassigned"], f"{card.unassigned:,}"),
        ]

    def notes(self) -> list[str]:
        """How the numbers were made, and what they cannot say."""
        words, card = self.words, self.scorecard
        effect, level = number(card.design_effect, 2), number(100 * self.rules.false_alarm, 1)
        texts = [
            words["principle"],
            words["note_shrunken"].format(effect=effect),
            words["note_worse"].format(margin=number(self.rules.margin, 1), level=level),
            words["note_mix"],
            words["note_score"],
            words["note_flags"],
        ]
        if len(card.uncorrected) < len(card.label_ids):
            texts.append(words["note_corrected"])
            if card.uncorrected:
                names = ", ".join(map(self.label, card.uncorrected))
                texts.append(words["note_uncorrected"].format(labels=names))
        texts.append(words["masked" if self.masked else "unmasked"])
        return texts

    def per_thousand(self, rate: Rate) -> str:
        """A rate per 1,000 lines with its interval."""
        return _spelled(rate, PER, 1)

    def _view(self, index: int, card: Card, scale: float) -> dict[str, Any]:
        figures, words = card.figures, self.words
        rate, team = figures.shrunken, self.scorecard.teams[card.team]
        low, high = rate.low / scale, rate.high / scale
        return {
            "index": index,
            "name": card.member[0],
            "where": " · ".join(filter(None, [card.member[1], card.team])),
            "turns": card.turns,
            "conversations": words["conversations"].format(count=f"{card.conversations:,}"),
            "rate": self.per_thousand(rate),
            "bar": [_percent(x) for x in (low, high - low, rate.value / scale, team.value / scale)],
            "remarks": list(self._remarks(card)),
            "worse": figures.worse,
            "few": not figures.enough,
            "few_text": self.few,
            "labels": [
                (self.label(label), *card.labels[label])
                for label in self.scorecard.label_ids
                if label in card.labels
            ],
            "human": list(self._human(card)),
            "verdict": card.verdict,
            "verdict_text": words[card.verdict],
            "score": "" if card.score is None else words["score"].format(score=f"{card.score:g}"),
            "deductions": [
                words["deduction"].format(
                    clause=self.label(d.clause), hits=d.hits, points=f"{d.points:g}"
                )
                + words["capped"] * d.capped
                + words["fatal"] * d.fatal
                for d in card.deductions
            ],
            "sort": {"rate": rate.value, "confirmed": card.reviewed.confirmed, "turns": card.turns},
            "appealed": card.appeals.appealed,
        }

    def _remarks(self, card: Card) -> Iterator[str]:
        """What stands under the rate."""
        figures, words = card.figures, self.words
        raw = self.per_thousand(figures.raw)
        yield words["raw"].format(rate=raw, count=f"{card.suspected:,}", of=f"{card.turns:,}")
        if figures.rank:
            low, high = figures.rank
            key = "rank" if low < high else "rank_one"
            yield words[key].format(low=low, high=high, of=figures.ranked)
        if figures.case_mix:
            ratio = _spelled(figures.case_mix, 1, 2)
            expected = number(figures.case_mix.of, 1)
            yield words["case_mix"].format(rate=ratio, expected=expected)
        if figures.corrected:
            yield words["corrected"].format(rate=self.per_thousand(figures.corrected))
        if card.to_review:
            yield words["to_review"].format(count=f"{card.to_review:,}")

    def _human(self, card: Card) -> Iterator[str]:
        """What stands under human review."""
        words, reviewed = self.words, card.reviewed
        yield words["reviewed"].format(decided=reviewed.decided, confirmed=reviewed.confirmed)
        if reviewed.rate:
            yield words["confirmed_rate"].format(rate=self.per_thousand(reviewed.rate))
        elif reviewed.decided:
            yield words["few_reviewed"].format(minimum=self.scorecard.minimum[1])
        if appeals := card.appeals.appealed and _appeals_json(card.appeals):
            yield words["appeals"].format(**appeals)

    def _hit_view(self, hit: Hit) -> dict[str, Any]:
        line = hit.line
        return {
            "key": self.key(line),
            "name": hit.member[0],
            "where": " · ".join(filter(None, [line.platform, line.shop, line.timestamp])),
            "label": hit.label,
            "label_name": self.label(hit.label),
            "clause": self.clause(hit),
            "state": hit.state,
            "state_name": self.words[hit.state],
            "appeal": self.words[hit.appeal] if hit.appeal else "",
            "facts": [
                self.words["probability"].format(value=number(self.probability(hit), 3)),
                self.words["severity"].format(value=hit.severity),
                *self.flags(hit),
            ],
            "rules": ", ".join(line.rules),
            "context": self.show(line.context),
            "pieces": self.pieces(hit),
            "reviews": [
                " · ".join(filter(None, [r.annotator, self.show(r.note)])) for r in hit.reviews
            ],
        }


def _rate_json(rate: Rate | None) -> dict[str, float] | None:
    if rate is None or math.isnan(rate.value):
        return None
    names = ("value", "low", "high", "count", "of")
    return {name: getattr(rate, name) for name in names}


def _appeals_json(appeals: Appeals) -> dict[str, int]:
    names = ("confirmed", "appealed", "upheld", "pending")
    return {name: getattr(appeals, name) for name in names}


def _spelled(rate: Rate, scale: int, digits: int) -> str:
    if math.isnan(rate.value):
        return MISSING
    value, low, high = (number(scale * x, digits) for x in (rate.value, rate.low, rate.high))
    return f"{value} [{low}, {high}]"


def _share(count: int, of: int) -> str:
    """Percentage with its Wilson interval and its counts."""
    if not of:
        return MISSING
    low, high = (number(100 * bound, 1) for bound in wilson(count, of))
    return f"{number(100 * count / of, 1)} % [{low}, {high}] {count}/{of}"


def _percent(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.1f}"
