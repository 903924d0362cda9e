"""Let a fine-tuned model name the clause that it suspects within a label.

The encoder stays as it is. Per label, a multinomial logistic regression on the pooled features of
its violating training lines tells the label's clauses apart; its weights become further rows of the
classification layer, so one pass gives labels and clauses. Clauses as further targets of the
fine-tuning itself were tried and slowed it down badly; see ``docs/decisions.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cs_classifier.errors import MissingExtraError
from cs_classifier.training.finetuning import Encoded, batches, padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from transformers import PreTrainedModel

    from cs_classifier.labels import LabelSet

    Array = npt.NDArray[np.float64]

UNSEEN = -30.0  # logit of a clause without training lines


def append(
    model: PreTrainedModel,
    data: Encoded,
    clauses: Sequence[tuple[str, ...]],
    label_set: LabelSet,
) -> tuple[str, ...]:
    """Add one output per clause after the labels; returns the clauses in order.

    Only BERT's own head is understood; another architecture is left as it is and names none.

    Args:
        model: fine-tuned on ``label_set``.
        data: violating lines.
        clauses: what each of them violates.
        label_set: the labels and their clauses.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    import torch

    if model.config.model_type != "bert" or not isinstance(model.classifier, torch.nn.Linear):
        return ()
    names = tuple(label_set.clauses)
    weights, biases = _fit(_features(model, data), clauses, label_set, names)
    head = torch.nn.Linear(model.config.hidden_size, len(label_set) + len(names))
    with torch.no_grad():
        head.weight.copy_(torch.cat([model.classifier.weight, torch.from_numpy(weights)]))
        head.bias.copy_(torch.cat([model.classifier.bias, torch.from_numpy(biases)]))
    model.classifier = head
    outputs = (*label_set.ids, *names)
    model.num_labels = model.config.num_labels = len(outputs)
    model.config.id2label = dict(enumerate(outputs))
    model.config.label2id = {name: i for i, name in enumerate(outputs)}
    return names


def _features(model: PreTrainedModel, data: Encoded) -> npt.NDArray[np.float32]:
    """What the classification layer sees, ``(n, hidden)``."""
    import torch

    model.eval()
    out = np.zeros((len(data.ids), model.config.hidden_size), dtype=np.float32)
    with torch.no_grad():
        for batch in batches(data, 64):
            inputs = padded(data, batch, model.config.pad_token_id or 0, model.device)
            out[batch] = model.base_model(**inputs).pooler_output.float().cpu().numpy()
    return out


def _fit(
    features: npt.NDArray[np.float32],
    clauses: Sequence[tuple[str, ...]],
    label_set: LabelSet,
    names: tuple[str, ...],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Weights ``(n_clauses, hidden)`` and biases ``(n_clauses,)``, label by label."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        msg = "evaluate"
        raise MissingExtraError(msg, "scikit-learn") from error
    weights = np.zeros((len(names), features.shape[1]), dtype=np.float32)
    biases = np.full(len(names), UNSEEN, dtype=np.float32)
    for label in label_set.ids:
        cases = [
            (i, names.index(clause))
            for i, violated in enumerate(clauses)
            for clause in violated
            if label_set.clauses[clause].label == label
        ]
        seen = sorted({k for _, k in cases})
        if len(seen) == 1:
            biases[seen] = 0.0
        if len(seen) < 2:  # noqa: PLR2004
            continue
        fitted = LogisticRegression(max_iter=1000).fit(
            features[[i for i, _ in cases]], [k for _, k in cases]
        )
        # With two classes scikit-learn keeps one row; the other is its negative.
        two = len(seen) == 2  # noqa: PLR2004
        rows = np.vstack([-fitted.coef_, fitted.coef_]) / 2 if two else fitted.coef_
        bias = (
            np.concatenate([-fitted.intercept_, fitted.intercept_]) / 2
            if two
            else fitted.intercept_
        )
        weights[seen], biases[seen] = rows, bias
    return weights, biases
