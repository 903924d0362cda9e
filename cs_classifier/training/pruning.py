"""A smaller encoder out of a fine-tuned one: fewer layers, fewer vocabulary pieces."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from cs_classifier.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def keep_layers(model: PreTrainedModel, count: int) -> None:
    """Keep ``count`` layers in place, evenly spaced from the first to the last.

    The rest is to be fine-tuned again ("layer dropping", Sajjad et al. 2023).

    Raises:
        ConfigError: the model has fewer layers.
    """
    import torch

    encoder = model.base_model.encoder
    if count > len(encoder.layer):
        msg = f"model.layers is {count}, but the base has {len(encoder.layer)}"
        raise ConfigError(msg)
    kept = np.linspace(0, len(encoder.layer) - 1, count).round().astype(int)
    encoder.layer = torch.nn.ModuleList(encoder.layer[i] for i in kept)
    model.config.num_hidden_layers = count


def keep_pieces(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[str, str]]
) -> PreTrainedTokenizerFast:
    """Keep the vocabulary pieces that occur in ``pairs``, and all single characters.

    ``pairs`` are split as before, since the best split of a unigram model stays the best among
    fewer. Other text may be split into shorter pieces.

    Args:
        model: its embeddings are cut in place.
        tokenizer: a unigram tokenizer.
        pairs: normalised (context, text) pairs.

    Returns:
        The tokenizer with the smaller vocabulary.

    Raises:
        ConfigError: the tokenizer is of another kind.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    document = json.loads(backend.to_str())
    if document["model"]["type"] != "Unigram":
        msg = f"model.prune_vocabulary needs a unigram tokenizer, not {document['model']['type']}"
        raise ConfigError(msg)
    vocabulary = document["model"]["vocab"]
    special = {token["id"] for token in document["added_tokens"]} | {document["model"]["unk_id"]}
    single = {i for i, (piece, _) in enumerate(vocabulary) if len(piece.removeprefix("▁")) <= 1}
    seen = {i for encoding in backend.encode_batch(list(pairs)) for i in encoding.ids}
    kept = sorted(special | single | seen)
    if kept[: len(special)] != sorted(special) or max(special) >= len(special):
        msg = "model.prune_vocabulary needs the special tokens at the head of the vocabulary"
        raise ConfigError(msg)
    document["model"]["vocab"] = [vocabulary[i] for i in kept]
    weights = model.get_input_embeddings().weight.detach()[kept].clone()
    model.set_input_embeddings(
        torch.nn.Embedding.from_pretrained(
            weights, freeze=False, padding_idx=model.config.pad_token_id
        )
    )
    model.config.vocab_size = len(kept)
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(document)))
