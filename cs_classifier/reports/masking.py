"""Personal identifiers out of everything that is shown or logged.

Too much is masked rather than too little: a long number is masked whether or not its checksum says
what it is. Patterns are bounded, so the time is linear in the length of the text. Masking twice
changes nothing.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cs_classifier.normalize import normalize

if TYPE_CHECKING:
    from collections.abc import Callable

PLATFORMS = (
    "taobao.com",
    "tb.cn",
    "tmall.com",
    "jd.com",
    "pinduoduo.com",
    "yangkeduo.com",
    "douyin.com",
    "jinritemai.com",
    "kuaishou.com",
)
_Span = tuple[int, int]
_NUMERALS = str.maketrans("零〇一二三四五六七八九幺壹贰叁肆伍陆柒捌玖", "001234567891123456789")
_WIDTHS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # weights of GB 11643-1999
_CHECKS = "10X98765432"
LUHN_LENGTHS = range(13, 20)
ID_LENGTH = 18
KEPT = 2  # characters of an account name that stay readable, so that two hits can be told apart

_MASKED = re.compile(
    r"<(?:手机|电话|证件|卡号|订单|地址|姓名|邮箱|链接)>"
    rf"|<链接 (?:{'|'.join(map(re.escape, PLATFORMS))})>"
    r"|[\w-]{2}\*\*\*\(\d{1,3}\)"
)

_GAP = r"[ \-.·_/~\ufe0f\u20e3]{0,3}"
_WORD_GAP = r"[号码群是为的加我搜这个呢哦哈就叫 :：,，=+~→>\-—(（\[【\"“'「.。·、/|]{0,6}"
_SOCIAL = (
    r"(?:微信|薇信|威信|徽信|微x|薇|[vVＶ]信|扣扣|加扣|企鹅|群号|抖音号|快手号|小红书"
    r"|(?<![a-z0-9])(?:weixin|wechat|[vw]x|qq|[vq](?![a-z])|tg|telegram|whatsapp)(?:号|id)?)"
)
_TOP_LEVEL = (
    "(?:com|cn|net|org|top|cc|me|link|vip|shop|xyz|tv|co|io|ly|im|app|site|club|store|fun|info"
    "|live)"
)
_NO_SPACE = r"[^\s<>\"'，。！？、；：（）【】「」《》\u4e00-\u9fff]"
_PROVINCE = (
    "(?:北京|上海|天津|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南"
    "|广东|海南|四川|贵州|云南|陕西|甘肃|青海|台湾|内蒙古|广西|西藏|宁夏|新疆|香港|澳门)"
    "(?:省|市|(?:壮族|回族|维吾尔)?自治区|特别行政区)?"
)
# A place name holds none of the small words that come before an address in a sentence, and after
# its first character nothing that ends a name: one way to match, so the time stays linear.
_SMALL = "的在到是我你您他她给寄往去了发至住址送"
_END = "省市区县旗镇乡路街巷弄村号楼栋幢座室"
_FIRST = rf"[^\x00-\u4dff\ua000-\U0010ffff{_SMALL}]"
_LATER = rf"[^\x00-\u4dff\ua000-\U0010ffff{_SMALL}{_END}]"
_LATIN = rf"[^\x00-/:-@\[-`{{-\u4dff\ua000-\U0010ffff{_SMALL}{_END}]"
_CITY = rf"(?:{_PROVINCE}|{_FIRST}{_LATER}{{1,6}}市)"
_AREA = (
    rf"{_FIRST}{_LATER}{{0,6}}"
    r"(?:自治州|市|(?<![地市郊各全小社景专片时])区|县|旗|镇|乡|街道)"
)
_ROAD = (
    rf"(?:{_FIRST}|[A-Za-z0-9]){_LATIN}{{0,9}}"
    r"(?:(?<=大)道|(?<=小)区|(?<=新)城|路|街|巷|(?<=胡)同|弄|村|(?<=花)园|(?<=公)寓|(?<=大)厦|(?<=广)场|苑)"
)
_NUMBER = (
    r"[0-9A-Za-z甲乙丙丁东西南北附]{1,6}(?:-\d{1,5})?"
    r"(?:号楼|号院|号|栋|幢|座|单元|室|户|楼|层|弄|组|房)"
)
_HOUSE = rf"(?:{_LATIN}{{0,10}}?(?:{_NUMBER}))"  # a building's name may stand before its number


@dataclass(frozen=True)
class _Kind:
    """One kind of identifier: group 1 of ``pattern`` (or all of it) becomes ``replace(found)``."""

    pattern: re.Pattern[str]
    replace: Callable[[str], str]
    numerals: bool = False  # matched with Chinese numerals read as digits


def _kind(pattern: str, replace: str | Callable[[str], str], *, numerals: bool = False) -> _Kind:
    compiled = re.compile(pattern, re.IGNORECASE | re.ASCII)
    return _Kind(compiled, (lambda _: replace) if isinstance(replace, str) else replace, numerals)


def _account(found: str) -> str:
    return f"{found[:KEPT]}***({len(found)})"


def _link(found: str) -> str:
    host = re.sub(r"^[a-z]+://", "", found.lower()).partition("/")[0].partition("?")[0]
    kept = [p for p in PLATFORMS if host == p or host.endswith(f".{p}")]
    return f"<链接 {kept[0]}>" if kept else "<链接>"


def _number(found: str) -> str:
    digits = "".join(char for char in found.upper() if char.isdigit() or char == "X")
    if is_id_card(digits):
        return "<证件>"
    return "<卡号>" if digits.isdigit() and is_bank_card(digits) else "<订单>"


def is_id_card(digits: str) -> bool:
    """Whether the check character of an 18-character identity number is right (ISO 7064, 11-2).

    >>> is_id_card("11010519491231002X")
    True
    """
    if len(digits) != ID_LENGTH or not digits[:-1].isdigit():
        return False
    total = sum(int(digit) * weight for digit, weight in zip(digits, _WIDTHS, strict=False))
    return _CHECKS[total % 11] == digits[-1]


def is_bank_card(digits: str) -> bool:
    """Whether a number of card length fulfils the Luhn check.

    >>> is_bank_card("6222021234567890128"), is_bank_card("6222021234567890120")
    (True, False)
    """
    if len(digits) not in LUHN_LENGTHS:
        return False
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0  # noqa: PLR2004


# In order of precedence: what an earlier kind has taken, a later one does not see.
_KINDS = (
    _kind(r"[a-z0-9._%+-]{1,64}@[a-z0-9.-]{1,190}\.[a-z]{2,12}", "<邮箱>"),
    _kind(rf"(?:https?://|www\.){_NO_SPACE}{{1,2000}}", _link),
    _kind(
        rf"(?<![a-z0-9@.\-])(?:[a-z0-9-]{{1,63}}\.){{1,4}}{_TOP_LEVEL}(?![a-z0-9.])"
        rf"(?:[/?]{_NO_SPACE}{{0,2000}})?",
        _link,
    ),
    _kind(rf"{_SOCIAL}{_WORD_GAP}([a-z][a-z0-9_-]{{4,63}})", _account),
    _kind(r"(?<![a-z0-9])(wxid_[a-z0-9_-]{3,60})", _account),
    _kind(
        r"(?<![a-z0-9_-])([a-z][a-z0-9_-]{4,63})[ ,，]{0,2}(?:是|这是)?我?的?(?:这个)?"
        r"(?:微信|薇信|扣扣|企鹅|(?<![a-z])(?:[vw]x|qq)(?![a-z0-9]))",
        _account,
    ),
    _kind(
        r"(?<![a-z0-9])(?:\d{6}[ -]\d{8}[ -]\d{3}[0-9x]|\d{4}(?:[ -]\d{4}){2,4}(?:[ -]?\d{1,3})?)"
        r"(?![0-9a-z])",
        _number,
    ),
    _kind(r"(?<![0-9])\d{17}[0-9x](?![0-9a-z])", _number),
    _kind(r"(?<![0-9])(?:\d{6}-)?\d{16,19}(?![0-9])", _number),
    _kind(r"(?<![0-9a-z])(?:[a-z]{1,6}|\d{6}-)?\d{12,}(?:-\d{1,20}){0,3}[0-9a-z]{0,6}", "<订单>"),
    _kind(r"\d{12,}", "<订单>"),
    _kind(
        r"(?:订单|单号|运单|快递)(?:编?号|码)?[ :：是为#]{0,4}"
        r"([a-z]{0,6}\d{8,11}(?!\d)[0-9a-z-]{0,8})",
        "<订单>",
    ),
    _kind(
        rf"(?<!\d)(?:\+?86{_GAP})?1{_GAP}[3-9](?:{_GAP}\d){{9}}(?!\d)[\ufe0f\u20e3]{{0,2}}(?:转\d{{1,6}})?",
        "<手机>",
        numerals=True,
    ),
    _kind(r"(?<!\d)[48]00(?:[ -]?\d){7}(?!\d)(?:转\d{1,6})?", "<电话>"),
    _kind(r"(?<!\d)\(?0\d{2,3}[)\- —]{0,2}\d{7,8}(?!\d)(?:[转-]\d{1,6})?", "<电话>"),
    _kind(
        r"(?:电话|座机|热线|手机|号码|致电|传真)[号码群是为 :：]{0,4}(\d(?:[ -]?\d){5,12})",
        "<电话>",
    ),
    _kind(rf"{_SOCIAL}{_WORD_GAP}(\d{{5,11}})", _account, numerals=True),
    _kind(
        r"(?<!\d)(\d{6,11})[ ,，]{0,2}(?:是|这是)?我?的?(?:微信|薇信|扣扣|企鹅|[vw]x|qq)", _account
    ),
    _kind(
        rf"{_CITY}(?:{_AREA}){{1,4}}(?:{_ROAD}){{1,2}}{_HOUSE}{{0,6}}\d{{0,5}}"
        rf"|{_CITY}(?:{_AREA}){{2,4}}{_HOUSE}{{0,6}}\d{{0,5}}"
        rf"|(?:{_PROVINCE})?(?:{_AREA}){{0,4}}(?:{_ROAD}){{1,2}}(?:{_NUMBER}){_HOUSE}{{0,5}}\d{{0,5}}"
        rf"|\d{{1,4}}(?:栋|幢|号楼|单元)(?:{_NUMBER}){{1,4}}\d{{0,5}}",
        "<地址>",
    ),
    _kind(
        r"(?:收件人|收货人|姓名|联系人)[:： ]{1,3}([\u4e00-\u9fff]{2,4})(?![\u4e00-\u9fff])",
        "<姓名>",
    ),
)


def mask(text: str) -> str:
    """Replace identifiers by what they are; account names keep two characters and their length.

    >>> mask("加我微信 abc123456,电话13800138000")
    '加我微信 ab***(9),电话<手机>'
    >>> mask("链接 https://item.taobao.com/item.htm?id=1 订单 2381234567890123457")
    '链接 <链接 taobao.com> 订单 <订单>'
    """
    while (masked := _once(text)) != text:  # each round takes letters and digits away, so it ends
        text = masked
    return text


def mask_span(text: str, start: int, end: int) -> str:
    """``text[start:end]``, masked; an identifier that reaches over an edge is masked whole.

    >>> mask_span("电话13800138000哈", 4, 8)
    '<手机>'
    """
    at, pieces = start, []
    for first, last, replacement in _identifiers(text):
        if last <= start or first >= end:
            continue
        pieces += [text[at:first], replacement]
        at = last
    return mask("".join([*pieces, text[at:end]]))


def _once(text: str) -> str:
    pieces, at = [], 0
    for start, end, replacement in _identifiers(text):
        pieces += [text[at:start], replacement]
        at = end
    return "".join([*pieces, text[at:]])


def _identifiers(text: str) -> list[tuple[int, int, str]]:
    """Spans of identifiers and their replacements, in order; what is masked already stays."""
    folded = "".join(map(_fold, text))
    digits = folded.translate(_NUMERALS)
    _, free = _taken(_MASKED, text, [(0, len(text))])
    found: list[tuple[int, int, str]] = []
    for kind in _KINDS:
        spans, free = _taken(kind.pattern, digits if kind.numerals else folded, free)
        found += [(start, end, kind.replace(folded[start:end])) for start, end in spans]
    return sorted(found)


def _taken(
    pattern: re.Pattern[str], text: str, free: list[_Span]
) -> tuple[list[_Span], list[_Span]]:
    """Spans of ``pattern`` within the free parts of ``text``, and the parts that stay free."""
    spans, rest = [], []
    for first, last in free:
        at = first
        for match in pattern.finditer(text[first:last]):
            start, end = match.span(match.re.groups)  # group 1 if there is one, else all of it
            spans.append((first + start, first + end))
            rest.append((at, first + start))
            at = first + end
        rest.append((at, last))
    return spans, [(start, end) for start, end in rest if start < end]


def _fold(char: str) -> str:
    """The plain form of a wide or enclosed letter or digit, if it is one character too."""
    if char.isascii():
        return char
    plain = unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 and plain.isascii() else char


def pseudonym(name: str) -> str:
    """A short hash that stands for a conversation id, which may be the customer's nickname.

    >>> pseudonym("小美"), pseudonym("")
    ('9c98979014', '')
    """
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10] if name else ""


def shown_key(key: str, conversation: str) -> str:
    """The key of a line without identifiers; lines stay apart.

    >>> shown_key("小美#3", "小美"), shown_key("k1", "小美")
    ('9c98979014#3', 'k1')
    """
    turn = key.removeprefix(conversation)
    if conversation and turn != key and turn.startswith("#"):
        return pseudonym(conversation) + mask(turn)
    return key if mask(key) == key else pseudonym(key)


# What an account name looks like where no word says so; model numbers are hidden with them.
_NAME = re.compile(r"(?<![A-Za-z0-9<])(?=[\w-]{6})[A-Za-z][A-Za-z_-]*\d[\w-]*", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9][\w-]{4,}", re.ASCII)


def hide(text: str) -> str:
    """The text without identifiers, also those that only show once spellings are undone.

    >>> hide("加威❤ abc12345"), hide("好的 dl_laozao06")
    ('加威❤ ab***(8)', '好的 dl***(11)')
    """
    shown = _NAME.sub(lambda found: _account(found.group()), mask(text))
    plain = normalize(shown)
    kept = mask(plain.text)
    if kept == plain.text:
        return shown
    parts, at = [], 0
    for match in _TOKEN.finditer(plain.text):
        if match.group() not in kept:
            start, end = plain.original_span(*match.span())
            parts += [shown[at:start], _account(match.group())]
            at = end
    return mask("".join([*parts, shown[at:]]))
