"""The workbook that reviewers fill."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from cs_classifier.reports.review_files.codec import pack
from cs_classifier.reports.review_files.lines import (
    Display,
    Turn,
    conversation,
    conversation_key,
    view,
)
from cs_classifier.reports.review_files.words import COLUMNS, INSTRUCTIONS, Column
from cs_classifier.reviews import VERDICTS
from cs_classifier.tables.formats import scalar
from cs_classifier.tables.writing import FORMULA, XLSX_CELL, sheet_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from cs_classifier.records import Evidence
    from cs_classifier.reports.wording import Language
    from cs_classifier.reviews import Sampled

DATA_PART = 32_000  # characters of the hidden data in one cell

_FONT, _SIZE = "Microsoft YaHei", 10
_LINE = 14  # points
_TALLEST, _LOWEST = 300, 30  # points of a row
_FROZEN = "C2"  # header, number and conversation stay in view
_HEAD, _ASKED_HEAD, _DONE, _MISSING = "1F4E78", "FFD966", "E2F0D9", "F8CBAD"
_FILLS = (("striped", "EAF1F8"), ("answer", "FFF8DC"), ("hidden", "F2F2F2"))
_SCORE = "0.000"
_SEEN = sum(column.kind != "hidden" for column in COLUMNS)  # columns, from the first
_WHITE, _GREY = "FFFFFF", "D0D7DE"
_EVIDENCE, _HERE = "C00000", "1F4E78"

_Pieces = list[tuple[str, str]]  # text, and the color in which it stands out, if it does


def write(
    sampled: Sequence[Sampled],
    path: Path,
    *,
    display: Display,
    info: Mapping[str, str],
) -> None:
    """Write the workbook; rows in the order given."""
    from openpyxl import Workbook

    book = Workbook()
    _styles(book)
    _instructions(book.active, display)
    sheet = book.create_sheet(display.words["review"])
    packed = [pack(item) for item in sampled]
    columns = _columns(max(map(len, packed), default=1))
    _header(sheet, columns, display.language)
    striped, last = True, None
    for number, (item, data) in enumerate(zip(sampled, packed, strict=True), 1):
        striped ^= (key := conversation_key(item.line)) != last
        last = key
        values = {"number": number, **_values(item, display), **_parts(data)}
        _row(sheet.cell, number + 1, columns, values, striped=striped)
        sheet.row_dimensions[number + 1].height = _height(values, columns)
    _page(book.create_sheet(display.words["information"]), info.items(), widths=(24, 80))
    _lists(book.create_sheet(display.words["lists"]), display)
    _usable(sheet, display)
    if sampled:
        _choices(sheet, columns, display)
    book.active = book.index(sheet)
    book.save(path)


def _columns(longest: int) -> tuple[Column, ...]:
    """The columns, with as many parts of the hidden data as that many characters need."""
    data = COLUMNS[-1]
    more = (
        data._replace(name=f"data{i}", zh=f"{data.zh}{i}", en=f"{data.en} {i}")
        for i in range(2, -(-longest // DATA_PART) + 1)
    )
    return (*COLUMNS, *more)


def _parts(data: str) -> dict[str, str]:
    """The hidden data by column; a cell holds only so much."""
    parts = [data[i : i + DATA_PART] for i in range(0, len(data), DATA_PART)]
    return {f"data{i if i > 1 else ''}": part for i, part in enumerate(parts, 1)}


def _values(item: Sampled, display: Display) -> dict[str, Any]:
    """Column name to cell value: text, a number, or pieces of which some stand out."""
    line, opinion = item.line, view(item, display)
    own = ("conversation_id", "timestamp", "platform", "shop", "agent_id", "context")
    return {
        **{name: getattr(line, name) for name in own},
        "conversation": _dialogue(conversation(line, display), display),
        "text": _highlighted(line.text, opinion.evidence),
        "suspected": opinion.suspected,
        "clauses": opinion.clauses,
        "evidence": " … ".join(dict.fromkeys(e.text for e in opinion.evidence if e.text)),
        "score": opinion.score,
        "rules": opinion.rules,
        "stratum": "" if item.blind else item.stratum,
        "probability": None if item.blind else item.probability,
        "key": line.key,
    }


def _dialogue(turns: Iterable[Turn], display: Display) -> _Pieces:
    """The turns, one a line; that under review stands out."""
    pieces: _Pieces = []
    for turn in turns:
        text = f"{turn.head}{display.words['colon']}{turn.text}"
        pieces.append((f"\n{text}" if pieces else text, _HERE if turn.here else ""))
    return pieces


def _highlighted(text: str, evidence: Iterable[Evidence]) -> _Pieces:
    """The text in pieces, those of the evidence standing out; overlapping spans are one.

    >>> from cs_classifier.records import Evidence
    >>> rule, model = Evidence("l", "r", "", 1, 4, ""), Evidence("l", "model", "", 0, 2, "")
    >>> _highlighted("加我微信吧", [rule, model])
    [('加我微信', 'C00000'), ('吧', '')]
    """
    pieces: _Pieces = []
    at = 0
    for item in sorted(evidence, key=lambda item: item.start):
        start = max(at, item.start)
        end = max(start, item.end)
        between = text[at:start]
        # Spreadsheets drop a piece that is white space only.
        pieces.append((between, "" if between.strip() or not pieces else _EVIDENCE))
        pieces.append((text[start:end], _EVIDENCE))
        at = end
    filled = groupby([piece for piece in [*pieces, (text[at:], "")] if piece[0]], itemgetter(1))
    return [("".join(piece for piece, _ in group), color) for color, group in filled]


def _header(sheet: Any, columns: Sequence[Column], language: Language) -> None:  # noqa: ANN401
    from openpyxl.styles import Alignment, Font, PatternFill
    from openpyxl.utils import get_column_letter

    for index, column in enumerate(columns, 1):
        cell = sheet.cell(1, index, column.zh if language == "zh" else column.en)
        answer = column.kind == "answer"
        cell.font = Font(name=_FONT, size=_SIZE, bold=True, color=None if answer else _WHITE)
        cell.fill = PatternFill("solid", fgColor=_ASKED_HEAD if answer else _HEAD)
        cell.alignment = Alignment(horizontal="center", vertical="center", wrap_text=True)
        shape = sheet.column_dimensions[get_column_letter(index)]
        shape.width, shape.hidden = column.width, column.kind == "hidden"
    sheet.row_dimensions[1].height = 2 * _LINE


def _styles(book: Any) -> None:  # noqa: ANN401
    """Name the styles of the rows; a name is far quicker to apply than its parts."""
    from openpyxl.styles import Alignment, Border, Font, NamedStyle, PatternFill, Side

    side, font = Side("thin", color=_GREY), Font(name=_FONT, size=_SIZE)
    wrapped = Alignment(vertical="top", wrap_text=True)
    book.add_named_style(NamedStyle("page", font=font, alignment=wrapped))
    fills = {"plain": PatternFill(), **{n: PatternFill("solid", fgColor=c) for n, c in _FILLS}}
    for name, fill in fills.items():
        for number_format in ("General", _SCORE):
            style = NamedStyle(f"{name} {number_format}", number_format=number_format)
            style.font, style.fill = font, fill
            # Wrapped hidden data would make the row tall.
            style.alignment = Alignment(vertical="top") if name == "hidden" else wrapped
            style.border = Border(left=side, right=side, top=side, bottom=side)
            book.add_named_style(style)


def _row(
    cells: Callable[[int, int], Any],
    row: int,
    columns: Sequence[Column],
    values: Mapping[str, Any],
    *,
    striped: bool,
) -> None:
    shown = "striped" if striped else "plain"
    for index, column in enumerate(columns, 1):
        cell = cells(row, index)
        name = shown if column.kind == "shown" else column.kind
        cell.style = f"{name} {_SCORE if column.name == 'score' else 'General'}"
        _fill(cell, values.get(column.name))


def _height(values: Mapping[str, Any], columns: Sequence[Column]) -> int:
    """Points that the tallest visible cell takes, within limits."""
    lines = [_lines(_plain(values.get(c.name)), c.width) for c in columns if c.kind == "shown"]
    return min(_TALLEST, max(_LOWEST, max(lines) * _LINE))


def _fill(cell: Any, value: Any) -> None:  # noqa: ANN401
    """Put a value into a cell, text always as text."""
    if value is None or isinstance(value, int | float):
        cell.value = value
    elif text := sheet_text(scalar(_plain(value))):
        rich = (
            isinstance(value, list)
            and len(text) <= XLSX_CELL // 2
            and any(color for _, color in value)
        )
        cell.value = _rich(value) if rich else text
        cell.data_type = "s"  # not a formula, nor an error value such as #N/A
        if FORMULA.match(text):
            cell.quotePrefix = True  # stays text when somebody edits the cell


def _plain(value: Any) -> str:  # noqa: ANN401
    """The text of a value, be it in pieces or not."""
    if isinstance(value, list):
        return "".join(piece for piece, _ in value)
    return value if isinstance(value, str) else ""


def _rich(pieces: _Pieces) -> Any:  # noqa: ANN401
    from openpyxl.cell.rich_text import CellRichText, TextBlock
    from openpyxl.cell.text import InlineFont

    clean = [(sheet_text(scalar(text)), color) for text, color in pieces]
    return CellRichText(
        *(
            TextBlock(InlineFont(b=True, color=c, sz=_SIZE, rFont=_FONT), t) if c else t
            for t, c in clean
            if t
        )
    )


def _lines(text: str, width: int) -> int:
    """Lines that wrapped text takes; a Chinese character is two wide."""
    room = width - 2  # words and bold type do not fill a line
    return sum(1 + len(part.encode("gbk", "replace")) // room for part in text.split("\n"))


def _usable(sheet: Any, display: Display) -> None:  # noqa: ANN401
    """Frozen panes, filter and print setup."""
    from openpyxl.utils import get_column_letter

    sheet.freeze_panes = _FROZEN
    sheet.auto_filter.ref = sheet.dimensions  # hidden columns too, or sorting would tear rows apart
    sheet.sheet_view.zoomScale = 90
    sheet.print_title_rows = "1:1"
    sheet.print_area = f"A1:{get_column_letter(_SEEN)}{sheet.max_row}"
    _landscape(sheet)
    sheet.oddFooter.center.text = display.words["page"]


def _choices(sheet: Any, columns: Sequence[Column], display: Display) -> None:  # noqa: ANN401
    """Drop-down lists, and colors that follow the answers."""
    from openpyxl.formatting.rule import FormulaRule
    from openpyxl.styles import PatternFill
    from openpyxl.utils import get_column_letter

    words = display.words
    at = {column.name: get_column_letter(i) for i, column in enumerate(columns, 1)}
    for name, cells in (
        ("verdict", "$A$1:$A$3"),
        ("correction", f"$B$1:$B${len(display.label_set) + 1}"),
    ):
        rule = _validation(name, f"'{words['lists']}'!{cells}", words)
        rule.add(f"{at[name]}2:{at[name]}{sheet.max_row}")
        sheet.add_data_validation(rule)
    verdict, correction = f"${at['verdict']}2", f"${at['correction']}2"
    suspected = f"${at['suspected']}2"
    missing = (
        f'AND({verdict}="{words["rejected"]}",{correction}="",'
        f'OR({suspected}="{words["blind"]}",{suspected}="{words["unsuspected"]}"))'
    )
    area = f"A2:{at['appeal']}{sheet.max_row}"
    for formula, color in ((missing, _MISSING), (f'{verdict}&{correction}<>""', _DONE)):
        fill = PatternFill("solid", bgColor=color)
        sheet.conditional_formatting.add(area, FormulaRule([formula], fill=fill, stopIfTrue=True))


def _validation(name: str, source: str, words: Mapping[str, str]) -> Any:  # noqa: ANN401
    """A list to choose from; a correction may be typed too, since it may hold several labels."""
    from openpyxl.worksheet.datavalidation import DataValidation

    return DataValidation(
        type="list",
        formula1=source,
        allow_blank=True,
        showErrorMessage=True,
        showInputMessage=True,
        errorStyle="stop" if name == "verdict" else "warning",
        errorTitle=words[f"{name}_title"],
        error=words[f"{name}_error"],
        promptTitle=words[f"{name}_title"],
        prompt=words[f"{name}_prompt"],
    )


def _instructions(sheet: Any, display: Display) -> None:  # noqa: ANN401
    words, language = display.words, display.language
    texts = INSTRUCTIONS[language]
    rows: list[tuple[str, ...]] = [(words["title"],), *((text,) for text in texts), ()]
    rows.append(tuple(words[name] for name in ("label", "clause", "definition", "rule")))
    head = len(rows)
    for label in display.label_set.labels:
        rows.append((getattr(label, language), "", label.definition))
        rows += [("", getattr(c, language), c.definition, c.rule) for c in label.clauses]
    sheet.title = words["instructions"]
    _page(sheet, rows, widths=(16, 22, 70, 70))
    _bold(sheet[1])
    _bold(sheet[head])
    for row in range(1, len(texts) + 2):
        sheet.merge_cells(start_row=row, end_row=row, start_column=1, end_column=4)
        sheet.row_dimensions[row].height = 2 * _LINE


def _page(sheet: Any, rows: Iterable[Sequence[str]], *, widths: Sequence[int]) -> None:  # noqa: ANN401
    """Rows of wrapped text."""
    from openpyxl.utils import get_column_letter

    for number, row in enumerate(rows, 1):
        for index, text in enumerate(row, 1):
            cell = sheet.cell(number, index)
            _fill(cell, str(text))
            cell.style = "page"
        tallest = max(map(_lines, row, widths), default=1)
        sheet.row_dimensions[number].height = tallest * _LINE
    for index, width in enumerate(widths, 1):
        sheet.column_dimensions[get_column_letter(index)].width = width
    _landscape(sheet)


def _landscape(sheet: Any) -> None:  # noqa: ANN401
    """Print across, as wide as the page."""
    sheet.page_setup.orientation = "landscape"
    sheet.page_setup.paperSize = sheet.PAPERSIZE_A4
    sheet.page_setup.fitToHeight = 0
    sheet.sheet_properties.pageSetUpPr.fitToPage = True


def _bold(cells: Iterable[Any]) -> None:
    from openpyxl.styles import Font

    for cell in cells:
        cell.font = Font(name=_FONT, size=_SIZE, bold=True)


def _lists(sheet: Any, display: Display) -> None:  # noqa: ANN401
    """The hidden sheet that the drop-down lists take their values from."""
    words = display.words
    verdicts = [words[name] for name in VERDICTS]
    labels = [*display.names(display.label_set.ids), words["no_label"]]
    for column, values in enumerate((verdicts, labels), 1):
        for row, value in enumerate(values, 1):
            _fill(sheet.cell(row, column), value)
    sheet.sheet_state = "hidden"
