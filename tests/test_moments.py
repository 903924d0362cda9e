"""Times of cells: one local clock, whatever form the export has."""

import pytest

from cs_classifier.moments import DAY, date_of, seconds

NINE_THIRTY = 20_768 * DAY + 9.5 * 3600  # 2026-11-11


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-11 09:30:00",
        "2026/11/11 9:30",
        "2026年11月11日 09:30:00",
        "2026-11-11T09:30:00+08:00",
        "2026-11-11 09:30:00 +0800",
        "2026-11-11T09:30:00+08",
        "2026-11-11T01:30:00Z",
        "2026-11-11T01:30:00.000000000Z",
        "2026-11-11T01:30:00+00:00",
        "2026-11-10T20:30:00-0500",
        "2026-11-11T07:00:00+05:30",
        "20261111093000",
        20261111093000,
        "20261111093000.0",
        1_794_360_600,
        "1794360600",
        1_794_360_600_000,
        "1794360600000",
    ],
)
def test_one_moment_in_all_forms(value):
    assert seconds(value) == NINE_THIRTY
    assert date_of(value) == "2026-11-11"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1970-01-02T00:00:01.5", 86_401.5),
        ("1970-01-02T00:00:00.123456789+08:00", 86_400.123456789),
        ("10:00", 36_000),
        ("20:00Z", 4 * 3600),  # a time of day stays one
        ("20261111096000", None),
        ("19991111", None),
        ("2026-02-30 10:00:00", None),
        ("2026-08-01", None),
        (45_870.5, None),
        ("inf", None),
        ("1" * 400, None),
        (10**400, None),
        (True, None),
        (None, None),
        ([], None),
    ],
)
def test_seconds(value, expected):
    assert seconds(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-11T23:30:00Z", "2026-11-12"),
        ("1794411000", "2026-11-11"),
        ("2026-11-11", "2026-11-11"),
        ("2026/8/1 下午3:30", "2026-08-01"),
        ("23:30", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_dates(value, expected):
    assert date_of(value) == expected
