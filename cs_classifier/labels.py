"""The label set: one ordered list of labels with their clauses, read from ``configs/labels.yaml``.

Nothing infers labels, their order or the task from data: every array in the package has shape
``(n, n_labels)`` in the order given here.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cs_classifier import resources
from cs_classifier.errors import ConfigError, LabelError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Clause(_Strict):
    """One way of violating a label; ``id`` is ``label.clause``."""

    id: str
    zh: str
    en: str
    definition: str
    severity: int = Field(ge=1, le=3)  # 1 minor, 2 serious, 3 grave: for ordering reports only
    rule: str  # what the platform rule says
    source: str  # where that rule was read

    @property
    def label(self) -> str:
        """Id of the label this clause belongs to."""
        return self.id.partition(".")[0]


class Label(_Strict):
    """One of the outputs of the model."""

    id: str
    zh: str
    en: str
    definition: str
    clauses: tuple[Clause, ...]


class Tag(_Strict):
    """Something that rules find beside the labels; never a violation of one of them."""

    id: str
    zh: str
    en: str
    definition: str
    source: str


class LabelSet(_Strict):
    """Ordered labels, their clauses, and the auxiliary tags."""

    version: str
    labels: tuple[Label, ...]
    tags: tuple[Tag, ...] = ()

    @field_validator("labels")
    @classmethod
    def _consistent(cls, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        ids = [label.id for label in labels]
        clause_ids = [clause.id for label in labels for clause in label.clauses]
        if len(set(ids)) != len(ids) or len(set(clause_ids)) != len(clause_ids):
            msg = "label and clause ids must be unique"
            raise ValueError(msg)
        for label in labels:
            for clause in label.clauses:
                if clause.label != label.id:
                    msg = f"clause {clause.id} stands under label {label.id}"
                    raise ValueError(msg)
        return labels

    def __len__(self) -> int:
        """Number of labels."""
        return len(self.labels)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Label ids in order."""
        return tuple(label.id for label in self.labels)

    @cached_property
    def clauses(self) -> dict[str, Clause]:
        """Clause id to clause, in order."""
        return {clause.id: clause for label in self.labels for clause in label.clauses}

    @cached_property
    def tag_ids(self) -> frozenset[str]:
        """Ids of the auxiliary tags."""
        return frozenset(tag.id for tag in self.tags)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.ids)}

    def index(self, label: str) -> int:
        """Column of ``label``.

        Raises:
            LabelError: ``label`` is not in the set.
        """
        try:
            return self._index[label]
        except KeyError:
            msg = f"unknown label '{label}'; the labels are: {', '.join(self.ids)}"
            raise LabelError(msg) from None

    def __getitem__(self, label: str) -> Label:
        """The label with id ``label``."""
        return self.labels[self.index(label)]

    def check_clause(self, clause: str) -> str:
        """Return ``clause`` if it is known.

        Raises:
            LabelError: it is not.
        """
        if clause not in self.clauses:
            msg = f"unknown clause '{clause}'; see configs/labels.yaml"
            raise LabelError(msg)
        return clause

    def row(self, labels: Iterable[str]) -> list[int]:
        """Indicator row (0/1, length ``len(self)``) of ``labels``.

        >>> load_labels().row(["abuse_harassment"])
        [0, 0, 1, 0, 0]
        """
        row = [0] * len(self)
        for label in labels:
            row[self.index(label)] = 1
        return row


def load_labels(path: Path | None = None) -> LabelSet:
    """Read a label set; the shipped one by default.

    Raises:
        ConfigError: the file is missing or not valid; the message names the field.
    """
    path = path or resources.find("configs/labels.yaml")
    try:
        data = resources.read_yaml(path)
        return LabelSet.model_validate(data)
    except (OSError, UnicodeDecodeError) as error:
        msg = f"cannot read label set {path}: {error}"
        raise ConfigError(msg) from error
    except (yaml.YAMLError, ValidationError) as error:
        msg = f"{path}: {error}"
        raise ConfigError(msg) from error
