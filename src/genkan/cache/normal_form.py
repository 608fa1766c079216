"""How a text is typed, taken away from what it asks: texts with one normal form have the same answer. Pure.

Only what cannot change an answer is taken away. In doubt a text stays as it is, in Unicode's composed form; that costs
an upstream call, where a wrong answer costs trust.

* **Spelling** is that of `canonical`: one code point sequence, space, width, quote sign. Not where signs or words may
  themselves be what is asked about: a text of several lines, with quotes or code, with a sign that stands alone, or
  that speaks of characters or languages.
* **Capitals** are names: the US is not us, Polish not polish, May not may, A minor no minor of any kind. Only the first
  word is written small, if it is one of those that begin questions and name nobody, and the English pronoun large.
* **The end**: "?", "." and "!" tell a question from a statement, so they go only where the words are a question by
  themselves. "You can cancel." is not "You can cancel?", 배송돼요. not 배송돼요?, and "Tôi không biết gì." is no
  question; but "how do I cancel" is "How do I cancel?". After a digit or a single letter no "!" goes: 5! is not 5.
* **Greetings and thanks** go if what is left is a question by its words, of two words or more.
"""

import re

from genkan.cache.lexicon import same, words
from genkan.cache.normalise import canonical
from genkan.nfc import nfc

#: A longer text is hardly typed twice, and would cost more than it could save.
MOST_CHARACTERS = 1000

_ODD = re.compile(r"[^\w ,.?!]|_")  # most texts have no such sign
_DELICATE = re.compile(
    r"[\n\r\t\v\f\x1c-\x1f\x85\u2028\u2029`\"“”„«»「」『』‹›{}\[\]\\|<>=^*~_#@\u200c\u200d\u20e3\ufe0e\ufe0f]"
    r"|://|U\+|(?<!\w)['‘’]|['‘’](?!\w)"  # a quotation, and not an apostrophe
    r"|(?<!\S)[^\w\s?!.,](?=[\s?.!]|$)"  # a sign that stands alone
)
_LONE_MARK = re.compile(r"(?:^|\s)[?!.,]+\s\S")
_LONE_WIDE_LETTER = re.compile(r"(?<![^\W_])[\uff21-\uff3a\uff41-\uff5a](?![^\W_])")
#: Beginnings of words, in lower case, by which a text speaks of characters, words or languages.
_ABOUT_LANGUAGE = (
    " accent", " apostrophe", " capital letter", " character", " comma ", " comma?", " dash ", " dash?", " hyphen",
    " letter", " mean", " operator", " pronounc", " punctuation", " regex", " say", " space", " spacing", " spell",
    " symbol", " syntax", " translat", " typ", " unicode", " upper", " lower", " word", " writ",
    " in chinese", " in english", " in french", " in german", " in japanese", " in korean", " in spanish",
    " in vietnamese", " dấu", " ký tự", " chữ", " viết", " dịch ", " nghĩa", " tiếng ",
    "기호", "부호", "연산자", "글자", "문자", "띄어쓰기", "맞춤법", "번역", "어로 ", "뜻",
)  # fmt: skip

_ENGLISH = words(
    "and any are at by can could did do does each every explain find from get give has have how if in is list my of on "
    "our please show some tell that the their then there these they this those to was we what what's when where "
    "where's which who who's whose why with would you your",
    same,
)
_VIETNAMESE = words(
    "bao các cách cho chuyện có còn cần do để được giúp hãy hỏi khi là làm lúc muốn mình mấy một nào nên nếu những "
    "phải sao sau tại tôi thế theo thì trong trước từ tớ và về vì việc với xin ở how what when where which why",
    same,
)
_FIRST_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?(?![\w.+'-])")
_SMALL_I = re.compile(
    r"\bi(?='(?:m|ve|d|ll)\b| (?:am|can't|didn't|don't|forgot|have|haven't|lost|need|want)\b)"
    r"|(?:(?<=\bdo )|(?<=\bam )|(?<=\bcan )|(?<=\bdid )|(?<=\bcould )|(?<=\bshould ))"
    r"i(?= (?!be\b|mean\b|equal)[a-z]{2})"
)

_BE_OR_DO = "do|does|did|can|could|should|would|is|are|was|were"
_ASKED_FIRST = re.compile(
    rf"(?:how (?:to|many|much|long|often|far|old|{_BE_OR_DO})"
    rf"|(?:what|why|where|when|who|which(?: \w+)?) (?:will|has|have|{_BE_OR_DO})|what's|where's|who's"
    r"|(?:do|have) (?:I|you|we|they)|(?:does|did|can|could|would|is|are|am|was|has) (?:I|you|we|they|he|she|it|there)"
    r"|làm (?:sao|thế nào|cách nào)|tại sao|vì sao)\b"
)
_ASKED_IN_KOREAN = re.compile(
    r"(?:[되있없않]나요|[었았했됐였겠]나요|[는은인건]가요|(?<!니)까요|[습입합됩]니까|[될할볼갈올줄쓸]까)$"
)
_WHAT_IN_KOREAN = re.compile(
    r"(?:어떻게|언제|어디|무엇|무슨|뭐|왜|누구|누가|얼마|몇|어느|어떤).*[하오주받쓰리꾸보]나요$"
)
_YES_OR_NO = (" được không", " phải không", " đúng không")
_ASKED_LAST = (
    " như thế nào", " thế nào", " làm sao", " ra sao", " bằng cách nào", " ở đâu", " là gì", " bao nhiêu", " bao lâu",
    " mấy giờ",
)  # fmt: skip
_STATED = re.compile(r"\b(?:không|chưa|chẳng|chả|đừng|cũng|biết|hiểu|nhớ)\b", re.IGNORECASE)
_UNFINISHED = (" a", " an", " are", " do", " does", " is", " the", " to")

_GREETING = re.compile(
    r"(?:(?:hi|hello|hey|good (?:morning|afternoon|evening))(?: (?:there|all|team|everyone))?"
    r"|(?:xin chào|chào|alo|dạ)(?: (?:shop|bạn|anh|chị|em|ad|admin|mọi người|anh chị))?(?: (?:ạ|ơi))?"
    r"|(?:shop|bạn|anh|chị|em|ad|admin) ơi|안녕하세요|안녕하십니까|안녕|저기요)"
    r"(?: ?[,.!?~]+ ?| )(?:please,? )?|please,? ",
    re.IGNORECASE,
)
_THANKS = re.compile(
    r"([?.!]) ?(?:(?:many )?thanks(?: a lot| so much| in advance)?|thank you(?: very much| so much| in advance)?"
    r"|(?:xin )?(?:cảm|cám) ơn(?: nhiều)?(?: (?:ạ|shop|bạn|anh|chị|em))*"
    r"|(?:미리 )?(?:감사합니다|감사해요|고맙습니다|고마워요)) ?[.!~]*$",
    re.IGNORECASE,
)
_CLOSING = re.compile(r"(?<=[^\W\d_]{2})(?: ?[?!]*\?[?!]*|\.|!+)$| ?\?+$| (?:vậy |thế )?ạ$")
_CLOSING_SIGNS = ("?", ".", "!", "ạ")
_CLOSING_CHARS = 20  # looked at at a time
_RUN = re.compile(r"(?<=[^\W\d_]{2})([?!])\1+$")


def normal_form(text: str) -> str:
    """The text that stands for all that are typed otherwise and ask the same. Its own normal form is itself.

    Cost: about 10 µs for a question of 10 words.

    >>> normal_form("Hi, how do I reset my  password ??")
    'how do I reset my password'
    """
    if not text.isascii():
        text = nfc(text)
    if len(text) > MOST_CHARACTERS or _is_delicate(text.strip()):
        return text
    text = canonical(text)
    plain = _impolite(text)
    question = _question(plain)
    if question is None and plain != text:
        question = _question(text)
    return _RUN.sub(r"\1", _with_capitals(text)) if question is None else question


def _impolite(text: str) -> str:
    while thanks := _THANKS.search(text):
        text = text[: thanks.start() + 1]
    while greeting := _GREETING.match(text):
        text = text[greeting.end() :]
    return text


def _is_delicate(text: str) -> bool:
    if (_ODD.search(text) and _DELICATE.search(text)) or _LONE_MARK.search(text):
        return True
    if not text.isascii() and _LONE_WIDE_LETTER.search(text):
        return True
    lower = f" {text.lower()} "
    return any([word in lower for word in _ABOUT_LANGUAGE])  # noqa: C419 - as a generator it takes three times as long


def _question(text: str) -> str | None:
    """Without what closes it, if it is a question of two words or more without that too."""
    text = _with_capitals(text)
    while text.endswith(_CLOSING_SIGNS) and (closing := _CLOSING.search(text, max(0, len(text) - _CLOSING_CHARS))):
        text = text[: closing.start()]
    return text if " " in text and _asks(text) else None


def _asks(text: str) -> bool:
    if _ASKED_FIRST.match(text):
        return not text.endswith(_UNFINISHED)  # what is ??
    if text.isascii():
        return False
    if text.endswith(_ASKED_LAST):
        return _STATED.search(text) is None
    if text[-1] in "요까" and (_ASKED_IN_KOREAN.search(text, max(0, len(text) - 6)) or _WHAT_IN_KOREAN.search(text)):
        return True
    return text.endswith(_YES_OR_NO)


def _with_capitals(text: str) -> str:
    """As it should be written: the first letter small where it is surely no name, I large where it is surely I."""
    is_ascii = text.isascii()
    first = _FIRST_WORD.match(text)
    if first is not None and text[0].isupper():
        word = first.group()
        small = word[0].lower() + word[1:]
        if small in (_ENGLISH if is_ascii else _VIETNAMESE):
            text = small + text[len(word) :]
    if is_ascii and (" i " in text or "i'" in text or text.startswith("i ")):
        text = _SMALL_I.sub("I", text)
    return text
