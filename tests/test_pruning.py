from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from cs_classifier.config import ModelConfig
from cs_classifier.errors import ConfigError
from cs_classifier.labels import load_labels
from cs_classifier.training import finetuning, pruning

PIECES = {
    "<s>": 0.0,
    "<pad>": 0.0,
    "</s>": 0.0,
    "<unk>": 0.0,
    "▁": -2.0,
    "发": -5.0,
    "票": -5.0,
    "货": -5.0,
    "发票": -6.0,
    "▁发票": -6.5,
    "发货": -6.0,
    "没有": -6.0,
    "没": -5.0,
    "有": -5.0,
}
PAIRS = [("发票", "没有"), ("有没", "票发票")]


def unigram() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram(list(PIECES.items()), unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def bert(n_layers: int = 2) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(PIECES),
        hidden_size=16,
        num_hidden_layers=n_layers,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=5,
        pad_token_id=1,
    )
    return BertForSequenceClassification(config).eval()


def logits(
    model: BertForSequenceClassification, tokenizer: PreTrainedTokenizerFast, pair: tuple[str, str]
) -> torch.Tensor:
    ids = tokenizer.backend_tokenizer.encode(*pair).ids
    with torch.no_grad():
        return model(torch.tensor([ids])).logits


def test_lines_seen_are_read_as_before() -> None:
    model, tokenizer = bert(), unigram()
    before = [logits(model, tokenizer, pair) for pair in PAIRS]
    smaller = pruning.keep_pieces(model, tokenizer, PAIRS)
    assert len(smaller) == model.config.vocab_size == len(model.get_input_embeddings().weight)
    assert set(PIECES) - set(smaller.get_vocab()) == {"发货"}
    for pair, expected in zip(PAIRS, before, strict=True):
        torch.testing.assert_close(logits(model, smaller, pair), expected)
    assert [t.removeprefix("▁") for t in smaller.backend_tokenizer.encode("发货").tokens[1:-1]] in (
        ["", "发", "货"],
        ["发", "货"],
    )


def test_other_tokenizers_are_refused(tiny_base: Path) -> None:
    model, tokenizer = finetuning.load_base(
        ModelConfig(base=str(tiny_base)), load_labels(), dropout=0.0
    )
    with pytest.raises(ConfigError, match="unigram"):
        pruning.keep_pieces(model, tokenizer, PAIRS)


@pytest.mark.parametrize(
    ("count", "kept"), [(1, [0]), (2, [0, 6]), (3, [0, 3, 6]), (7, list(range(7)))]
)
def test_layers_are_evenly_spaced(count: int, kept: list[int]) -> None:
    model = bert(7)
    layers = list(model.bert.encoder.layer)
    pruning.keep_layers(model, count)
    assert [layers.index(layer) for layer in model.bert.encoder.layer] == kept
    assert model.config.num_hidden_layers == count
    assert logits(model, unigram(), PAIRS[0]).shape == (1, 5)


def test_more_layers_than_there_are() -> None:
    with pytest.raises(ConfigError, match="the base has 2"):
        pruning.keep_layers(bert(2), 3)


def test_a_model_folder_can_lose_layers(artifact_folder: Path) -> None:
    config = ModelConfig(base=str(artifact_folder), layers=2)
    model, _ = finetuning.load_base(config, load_labels(), dropout=0.0)
    whole, _ = finetuning.load_base(
        ModelConfig(base=str(artifact_folder)), load_labels(), dropout=0.0
    )
    assert len(whole.bert.encoder.layer) == 3
    for ours, at in zip(model.bert.encoder.layer, (0, 2), strict=True):
        theirs = whole.bert.encoder.layer[at]
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
