"""A tiny BERT with a Chinese vocabulary, and a complete artifact trained with it."""

import json
from pathlib import Path

import pytest

from cs_classifier.config import TrainConfig

LINES = [
    ("能开票吗", "没有票的", "invoice_refusal"),
    ("要发票", "只有收据哈", "invoice_refusal"),
    ("说好包邮的", "现在不包了", "promise_breach"),
    ("昨天说今天发", "今天发不了,哪天不一定", "promise_breach"),
    ("质量太差", "你有病吧", "abuse_harassment"),
    ("", "傻逼买家", "abuse_harassment"),
    ("怎么联系", "加微信abc12345", "off_platform_contact"),
    ("便宜点", "加我微信给您优惠", "off_platform_contact"),
    ("是正品吗", "高仿的,看不出来", "counterfeit_hint"),
    ("真的吗", "一比一复刻", "counterfeit_hint"),
    ("几天到", "三天左右到哦", ""),
    ("能开票吗", "可以的,电子发票哦", ""),
    ("加个微信", "平台不允许的哦", ""),
    ("是正品吗", "是的,支持验货", ""),
    ("", "好的呢", ""),
    ("在吗", "在的亲", ""),
]


def labelled(prefix: str, copies: int, origin: str = "") -> list[dict[str, object]]:
    """``copies`` variants of the lines above, each in a group of its own."""
    return [
        {
            "id": f"{prefix}{i}-{copy}",
            "context": context,
            "text": text + "哦呢呀啊哈"[copy % 5] * (copy + 1),
            "labels": [label] if label else [],
            "group": f"{prefix}{i}-{copy}",
            "origin": origin,
        }
        for copy in range(copies)
        for i, (context, text, label) in enumerate(LINES)
    ]


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    """Write rows and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer BERT in a folder, as a user might bring one."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny-bert")
    characters = sorted(
        {c for context, text, _ in LINES for c in context + text} | set("哦呢呀啊哈")
    )
    vocabulary = {t: i for i, t in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small train, calibration and test files."""
    folder = tmp_path_factory.mktemp("corpus")
    write_jsonl(folder / "train.jsonl", labelled("t", 5))
    write_jsonl(folder / "calibration.jsonl", labelled("c", 3, "enriched:test"))
    write_jsonl(folder / "test.jsonl", labelled("x", 2))
    return folder


@pytest.fixture(scope="session")
def tiny_config(tiny_base: Path, corpus: Path) -> TrainConfig:
    """A recipe that trains in a second."""
    return TrainConfig.model_validate(
        {
            "name": "tiny",
            "data": {
                "train": [corpus / "train.jsonl"],
                "calibration": [corpus / "calibration.jsonl"],
                "test": [corpus / "test.jsonl"],
            },
            "model": {"base": str(tiny_base), "pooling_layer": True},
            "train": {
                "epochs": 8,
                "learning_rate": 3e-3,
                "head_learning_rate": 1e-2,
                "batch_size": 16,
                "precision": "fp32",
            },
        }
    )


@pytest.fixture(scope="session")
def artifact_folder(tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model folder; do not change it, copy it."""
    from cs_classifier import training

    root = tmp_path_factory.mktemp("models")
    training.train(tiny_config, root / "tiny", work=root / "work")
    return root / "tiny"
