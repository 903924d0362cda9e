import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs_classifier import artifact
from cs_classifier.classifiers import ngrams
from cs_classifier.classifiers.ngrams import NgramModel
from cs_classifier.records import Message
from cs_classifier.training import wide

PAIRS = [
    ("能开票吗", "开不了的亲"),
    ("开发票", "开不了哦"),
    ("几号发", "明天发的亲"),
    ("在吗", "在的亲"),
    ("能开票吗", "可以开的"),
    ("", "开不了的"),
]
GOLD = np.array([[1, 0], [1, 0], [0, 0], [0, 0], [0, 0], [0, 0]], dtype=np.float64)


@pytest.fixture(scope="module")
def model() -> NgramModel:
    return wide.fit(PAIRS, GOLD, weight=1.0)


def test_learns_from_line_and_context(model: NgramModel) -> None:
    refused, open_question, alone = model.logits(
        [("能开票吗", "开不了哦"), ("几号发", "明天发的"), ("", "开不了哦")]
    )[:, 0]
    assert refused > alone > open_question


def test_same_as_scikit_learn(model: NgramModel) -> None:
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    line = TfidfVectorizer(
        analyzer=lambda pair: list(ngrams.ngrams(pair)[0].elements()),
        min_df=2, sublinear_tf=True,
    )  # fmt: skip
    context = TfidfVectorizer(
        analyzer=lambda pair: list(ngrams.ngrams(pair)[1].elements()),
        min_df=2, sublinear_tf=True,
    )  # fmt: skip
    matrix = hstack([line.fit_transform(PAIRS), context.fit_transform(PAIRS)]).tocsr()
    fitted = LogisticRegression(C=wide.REGULARISATION, solver="liblinear").fit(matrix, GOLD[:, 0])
    np.testing.assert_allclose(
        model.logits(PAIRS)[:, 0], fitted.decision_function(matrix), atol=1e-3
    )


def test_weight_scales_the_logits(model: NgramModel) -> None:
    half = wide.fit(PAIRS, GOLD, weight=0.5)
    np.testing.assert_allclose(half.logits(PAIRS), model.logits(PAIRS) / 2, atol=1e-12)


def test_rare_ngrams_are_left_out(model: NgramModel) -> None:
    fewer = wide.fit(PAIRS, GOLD, weight=1.0, min_lines=3).vocabulary
    assert set(fewer) < set(model.vocabulary)
    assert "开不了" in fewer  # in three lines
    assert "\x1e能开票吗"[:4] not in fewer  # in two messages


def test_a_label_without_examples_adds_nothing(model: NgramModel) -> None:
    assert not model.logits(PAIRS)[:, 1].any()


def test_saved_is_in_memory_but_for_rounding(model: NgramModel, tmp_path: Path) -> None:
    model.save(tmp_path / ngrams.FILE)
    loaded = NgramModel.load(tmp_path / ngrams.FILE)
    assert loaded.vocabulary == model.vocabulary
    np.testing.assert_allclose(loaded.logits(PAIRS), model.logits(PAIRS), atol=5e-3)


texts = st.text(alphabet="开不了的亲发票明天 😀\n", max_size=30)


@given(st.lists(st.tuples(texts, texts), max_size=8))
@settings(max_examples=50, deadline=None)
def test_batch_is_single(pairs: list[tuple[str, str]]) -> None:
    model = wide.fit(PAIRS, GOLD, weight=1.0)
    batch = model.logits(pairs)
    assert batch.shape == (len(pairs), 2)
    for pair, row in zip(pairs, batch, strict=True):
        np.testing.assert_allclose(model.logits([pair])[0], row, atol=1e-9)


def test_an_artifact_with_ngrams_adds_their_logits(artifact_folder: Path, tmp_path: Path) -> None:
    plain = artifact.load(artifact_folder)
    folder = Path(shutil.copytree(artifact_folder, tmp_path / "model"))
    n = len(plain.label_set)
    model = wide.fit(PAIRS, np.repeat(GOLD[:, :1], n, axis=1), weight=1.0)
    model.save(folder / ngrams.FILE)
    artifact.seal(folder, artifact.read_manifest(folder))
    joined = artifact.load(folder)
    messages = [Message(text, context) for context, text in PAIRS]
    before, after = plain.score(messages), joined.score(messages)
    pairs = [(plain.normalize(m.context).text, plain.normalize(m.text).text) for m in messages]
    np.testing.assert_allclose(after.logits - before.logits, model.logits(pairs), atol=5e-3)
    np.testing.assert_array_equal(after.clauses, before.clauses)
