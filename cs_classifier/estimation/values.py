"""What an estimate says; all values are frozen."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

LEVEL = 0.95  # of every interval
ANY = "any"  # in place of a label: whether a line has any

Measure = Literal["prevalence", "precision_violation"]
MEASURES: tuple[Measure, ...] = ("prevalence", "precision_violation")  # compared between nights


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Estimate(_Value):
    """A share with its 95 % interval.

    ``low`` and ``high`` hold the share among the lines of these nights, so they meet where every
    line was reviewed. ``system_low`` and ``system_high`` hold what the system does in the long run:
    a line reviewed is then still one of many. Use these to compare nights or to judge the system.
    ``hits`` of ``reviewed`` answered lines were counted, unweighted; the share speaks for ``lines``
    and weighs as much as ``effective`` lines drawn alike.
    """

    value: float
    low: float
    high: float
    system_low: float
    system_high: float
    hits: int
    reviewed: int
    effective: float
    lines: float


class Measures(_Value):
    """The estimates of one label; ``None`` where nothing was reviewed that they could rest on.

    ``recall_review`` is that of violation and review together.
    """

    prevalence: Estimate
    precision_violation: Estimate | None
    precision_review: Estimate | None
    recall_violation: Estimate | None
    recall_review: Estimate | None


class LabelEstimates(Measures):
    """The measures of ``label`` (or of :data:`ANY`), and its mean calibrated probability."""

    label: str
    expected: float | None = None


class StratumCounts(_Value):
    """How far a stratum was reviewed; ``lines`` is an estimate where the rows do not say."""

    stratum: str
    lines: float
    rows: int
    answered: int


class Drift(_Value):
    """A measure that differs from the earlier nights together by more than chance explains."""

    label: str
    measure: Measure
    before: float
    low: float  # of the difference, this night minus before
    high: float
    nights: int


class Refit(_Value):
    """Why calibration should be fitted anew."""

    label: str
    reason: Literal["precision", "calibration"]


class EstimateReport(_Value):
    """What one or more reviewed workbooks say; counts are rows, ``lines`` those they stand for.

    ``disputed`` rows have different answers from different reviewers and are left out, as doubtful
    ones are. ``unseen`` lines lie in strata without an answer; the estimates say nothing of them.
    """

    night: str
    models: tuple[str, ...]
    reviewed: int
    open: int
    doubtful: int
    disputed: int
    lines: float
    unseen: float
    strata: tuple[StratumCounts, ...]
    labels: tuple[LabelEstimates, ...]
    overall: LabelEstimates
    floor: float
    nights: int = 0  # earlier ones that this is compared with
    drifts: tuple[Drift, ...] = ()
    refits: tuple[Refit, ...] = ()
