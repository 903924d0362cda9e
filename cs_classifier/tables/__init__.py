"""Transcript files in and out: csv, tsv, xlsx, jsonl and parquet, one row at a time.

"Row" in every message is the number a spreadsheet shows: the header of a csv, tsv or xlsx file is
row 1 (a title above it counts too) and a cell that holds a newline is still one row. A jsonl file
has no header, so its first line is row 1; the first record of a parquet file is row 1.
"""

from cs_classifier.tables.formats import FORMATS, Row, output_format
from cs_classifier.tables.reading import columns, detect_encoding, estimate_rows, read
from cs_classifier.tables.spooling import Spool, sync
from cs_classifier.tables.writing import CUT_MARK, LIST_SEPARATOR, Kind, Writer

__all__ = [
    "CUT_MARK",
    "FORMATS",
    "LIST_SEPARATOR",
    "Kind",
    "Row",
    "Spool",
    "Writer",
    "columns",
    "detect_encoding",
    "estimate_rows",
    "output_format",
    "read",
    "sync",
]
