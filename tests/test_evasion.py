"""The evasion generator: eight attacks, two halves that share no replacement."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cs_classifier.errors import ConfigError, DataError
from cs_classifier.evasion import ATTACKS, Evader, attacked_sets, half_of
from cs_classifier.normalize import normalize
from cs_classifier.records import LabelledMessage, Message

EVADERS = {half: Evader(half) for half in ("train", "test")}
LINE = "亲加我微信wx8812转账,发票开不了哦"
CHINESE = st.text(
    st.sampled_from("加微信发票开不了转账钱您好的wx12,哦亲 8"), min_size=1, max_size=30
)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("half", ["train", "test"])
def test_every_attack_changes_a_line_and_leaves_most_of_it(attack, half):
    for seed in range(20):
        after = EVADERS[half](LINE, attack, rng(seed))
        assert after not in {None, LINE}
        assert sum(char in after for char in "亲哦,") >= 2


@pytest.mark.parametrize("attack", ATTACKS)
def test_same_seed_same_spelling(attack):
    assert EVADERS["test"](LINE, attack, rng(3)) == EVADERS["test"](LINE, attack, rng(3))


@pytest.mark.parametrize("attack", ["homophone", "component", "emoji", "lookalike"])
def test_halves_share_no_replacement(attack):
    """A character that both halves can respell never becomes the same in both."""
    seen = {half: set() for half in EVADERS}
    for half, evader in EVADERS.items():
        for seed in range(150):
            after = evader("微信", attack, rng(seed))
            seen[half].add(after)
    assert not (seen["train"] & seen["test"]) - {None}
    assert len(seen["train"] | seen["test"]) > 1


def test_words_that_filters_look_for_come_first():
    line = "昨天看到的那个微信我已经备注好了"
    for seed in range(20):
        after = EVADERS["test"](line, "homophone", rng(seed))
        assert after.replace("微信", "") != line.replace("微信", "") or "微信" not in after
        assert "微信" not in after
        assert after.startswith("昨天看到的那个")


def test_nothing_to_attack():
    assert EVADERS["test"]("。。。", "homophone", rng()) is None
    assert EVADERS["test"]("ok", "traditional", rng()) is None


@given(CHINESE, st.sampled_from(ATTACKS), st.sampled_from(["train", "test"]), st.integers(0, 99))
def test_result_is_none_or_different_and_never_empty(text, attack, half, seed):
    after = EVADERS[half](text, attack, rng(seed))
    assert after is None or (after != text and after.strip())


def test_both_halves_get_about_half():
    pairs = [("微", chr(code)) for code in range(0x4E00, 0x4E00 + 2000)]
    share = np.mean([half_of(*pair) == "train" for pair in pairs])
    assert 0.45 < share < 0.55


@pytest.mark.parametrize("word", ["wx8812", "VX12"])
def test_enclosed_forms_of_letters_are_undone_by_the_normaliser(word):
    line = f"加微信{word}吧"
    for seed in range(30):
        after = EVADERS["test"](line, "enclosed", rng(seed))
        if all(unicodedata.category(char) != "Ps" for char in after):  # not the bracket form
            assert normalize(after).text.lower() == normalize(line).text.lower()


def lines(n, label):
    return [
        LabelledMessage(
            f"{label}{i}",
            Message(f"{i}号仓库加我微信wx{i}23,给您转账开发票的钱"),
            (label,) if label else (),
        )
        for i in range(n)
    ]


def test_attacked_sets_hold_the_same_lines_under_every_attack():
    sets = attacked_sets(lines(40, "off_platform_contact") + lines(40, ""), 20, "test", rng())
    assert set(sets) == {"plain", *ATTACKS}
    plain = sets["plain"]
    assert len(plain) == 20
    assert sum(bool(line.labels) for line in plain) == 10
    for attack in ATTACKS:
        for before, after in zip(plain, sets[attack], strict=True):
            assert after.labels == before.labels
            assert after.group == before.group
            assert after.origin == f"evasion:{attack}"
            assert after.message.text != before.message.text
    ids = [line.id for rows in sets.values() for line in rows]
    assert len(set(ids)) == len(ids)


def test_too_few_lines_is_an_error_that_says_which():
    with pytest.raises(DataError, match=r"10 of 20 lines.*violating"):
        attacked_sets(lines(40, ""), 20, "test", rng())


def test_bad_tables_are_named(tmp_path):
    path = tmp_path / "evasion.yaml"
    path.write_text("targets: [微信]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"evasion\.yaml"):
        Evader("test", path)
