"""A pipeline that needs no training, and transcripts for it."""

import zlib
from pathlib import Path

import numpy as np

from cs_classifier import artifact
from cs_classifier.calibration import Calibrator
from cs_classifier.decision import Decision
from cs_classifier.labels import load_labels
from cs_classifier.normalize import Normalizer
from cs_classifier.pipeline import Pipeline
from cs_classifier.rules import load_rules


class Moody:
    """Logits by a checksum of the text, and also by how many texts come together.

    A real encoder does that too, in the last digit: sums run in another order in another batch.
    Here it is the third digit, so that a run which does not repeat the same batches shows.
    """

    name = "moody"

    def __init__(self, n_labels: int) -> None:
        self.n_labels = n_labels
        self.calls: list[int] = []

    def logits(self, pairs):
        self.calls.append(len(pairs))
        rows = [
            [zlib.crc32(f"{j}{context}|{text}".encode()) / 2**30 - 5 for j in range(self.n_labels)]
            for context, text in pairs
        ]
        return np.array(rows).reshape(-1, self.n_labels) + 0.01 * len(pairs)


def pipeline() -> Pipeline:
    folder = artifact.default_path()
    labels = load_labels(folder / "labels.yaml")
    return Pipeline(
        label_set=labels,
        rules=load_rules(folder / "rules.yaml", labels),
        normalizer=Normalizer(folder / "lexicon.yaml"),
        encoder=Moody(len(labels)),
        calibrator=Calibrator.model_validate_json((folder / "calibration.json").read_bytes()),
        decision=Decision.model_validate_json((folder / "decision.json").read_bytes()),
        model_id="moody-1",
    )


QUESTIONS = ("能开票吗", "什么时候发货", "是正品吗", "在吗", "[图片]")
ANSWERS = (
    "在的亲",
    "没有票的",
    "=1+1,加微信abc12345",
    "您好,请稍等\n马上",
    "",
    "亲亲48小时内发货",
    "好的",
)


def dialogue(rng: np.random.Generator, rows: int, *, conversations: int = 7) -> list[dict]:
    """Rows of mixed conversations in which a few phrases come again and again."""
    found = []
    for number in range(rows):
        role = rng.choice(["客服", "买家"], p=[0.6, 0.4])
        phrase = str(rng.choice(ANSWERS if role == "客服" else QUESTIONS))
        found.append(
            {
                "conversation_id": f"c{rng.integers(conversations)}",
                "role": str(role),
                "agent_id": f"店:{rng.integers(3)}",
                "timestamp": f"2026-11-11 10:{number // 60 % 60:02}:{number % 60:02}",
                "text": phrase if rng.random() < 0.7 else f"{phrase}{rng.integers(50)}",
                "n": number,
            }
        )
    return found


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
