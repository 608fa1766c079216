"""Which language a text is in: one of those the guards know, or none."""

import re

from genkan.cache import words_en, words_ko, words_vi
from genkan.cache.lexicon import Lexicon, same, words
from genkan.cache.normalise import bare

LEXICONS: dict[str, Lexicon] = {one.name: one for one in (words_en.LEXICON, words_vi.LEXICON, words_ko.LEXICON)}

_HANGUL = re.compile(r"[가-힣]")
_OTHER_SCRIPT = re.compile(r"[^\W\d_\u0000-\u024f\u1e00-\u1effㄱ-ㆎ가-힣]")
_MARKED_LATIN = re.compile(r"[\u00c0-\u024f\u1e00-\u1eff]")
_MARKED = re.compile(r"[^\W\d_a-zA-Z]")
_VIETNAMESE = re.compile(r"[ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉĩịọỏốồổỗộớờởỡợụủũứừửữựỳỵỷỹ]", re.IGNORECASE)
_ENGLISH = words(
    "the a an is are was do does did can could will would should how what why when where who which i my me you your it "
    "to of in for and on with from that this be have has not if or at there any get by about",
    same,
)
_BARE = words(
    "toi minh cua la khong co duoc lam nao the gi cho nhu bao nhieu muon sao toi ban shop voi cach khi va nhung mot "
    "cac bi da dang hay thi tai khoan mat khau don hang tien dau phai huy doi mua nguoi ngay thang giup "
    "em anh chi oi",
    same,
)
_WORD = re.compile(r"[^\W\d_]+")


def language(text: str) -> str | None:
    """``en``, ``vi`` or ``ko``; None for another, for two at once, and for Vietnamese without its marks.

    A text in Latin letters alone is English if it has English function words, or is too short to need them. A few
    Latin words in a Korean text (names, products) leave it Korean. Cost: about 5 µs.
    """
    if _OTHER_SCRIPT.search(text):
        return None
    hangul = len(_HANGUL.findall(text))
    if hangul:
        return "ko" if 2 * hangul >= len(re.findall(r"[A-Za-z]", text)) and not _MARKED_LATIN.search(text) else None
    return _latin(text)


def _latin(text: str) -> str | None:
    spoken = _WORD.findall(text.lower())
    english = sum(word in _ENGLISH for word in spoken)
    marked = _MARKED.findall(text)
    if marked and (_VIETNAMESE.search(text) or sum(bare(word) in _BARE for word in spoken) >= 2):
        return "vi" if len(marked) * 4 >= len(spoken) and english * 3 < len(spoken) else None
    unmarked = sum(word in _BARE for word in spoken)
    if unmarked >= 2 and unmarked > english:
        return None
    return "en" if spoken and (english or len(spoken) <= 3) else None
