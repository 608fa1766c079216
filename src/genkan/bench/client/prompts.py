"""What is asked: the same in every run with one seed, and never the same with two.

A prompt is made of words of one language. How many tokens a word has differs between tokenizers and languages, so
lengths are rough; the report says what the server counted.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal, get_args

from genkan.bench.client.outcome import Order
from genkan.bench.client.target import Target

Language = Literal["en", "vi", "ko"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
#: What the arms of a comparison ask for, by arm. The one that leaves something behind for later comes first, or it
#: would profit from what the others left.
Arms = Mapping[str, Mapping[str, Any]]
PLAIN: Arms = {"all": {}}
STORED: Arms = {"cached": {"cache": "default"}, "uncached": {"cache": "no-cache", "prefix_cache": False}}
PREFIXES: Arms = {
    "prefix cached": {"cache": "no-cache", "prefix_cache": True},
    "prefix uncached": {"cache": "no-cache", "prefix_cache": False},
}

_TOKENS_A_WORD: Mapping[Language, float] = {"en": 1.3, "vi": 2.0, "ko": 3.0}
_WORDS: Mapping[Language, str] = {
    "en": (
        "the a our guest room key garden morning breakfast train station ticket river bridge letter price window "
        "evening water tea bread lamp floor door quiet early late open closed near far before after between when "
        "where why how which may can should will please kindly also only never often seven twenty hundred and or but"
    ),
    "vi": (
        "khách phòng chìa khóa vườn buổi sáng bữa ăn nhà ga vé tàu dòng sông cây cầu lá thư giá cửa sổ buổi tối nước "
        "trà bánh mì đèn tầng yên tĩnh sớm muộn mở đóng gần xa trước sau giữa khi nào ở đâu tại sao thế nào có thể "
        "nên sẽ làm ơn cũng chỉ không bao giờ thường bảy hai mươi một trăm và hoặc nhưng"
    ),
    "ko": (
        "손님 방 열쇠 정원 아침 식사 기차 역 표 강 다리 편지 가격 창문 저녁 물 차 빵 등불 층 문 조용한 이른 늦은 열린 "
        "닫힌 가까운 먼 전에 후에 사이에 언제 어디서 왜 어떻게 어느 해도 할까요 부탁 또한 오직 결코 자주 일곱 스물 백 "
        "그리고 또는 하지만"
    ),
}
_OPENING: Mapping[Language, str] = {
    "en": "Please answer in one sentence.",
    "vi": "Hãy trả lời bằng một câu.",
    "ko": "한 문장으로 대답해 주세요.",
}


@dataclass(frozen=True, slots=True)
class Prompts:
    """What the requests are like.

    ``prefixes``: how many different system prompts of about ``prefix_tokens`` come in turn; with 0 there is none.
    ``questions``: how many different user texts of about ``prompt_tokens``, each asked again and again in random
    order; with 0 no two are alike. Languages come in turn. ``arms`` are asked the same, one after the other.
    """

    model: str = "default"
    stream: bool = True
    prefixes: int = 0
    prefix_tokens: int = 512
    prompt_tokens: int = 32
    max_tokens: int = 32
    questions: int = 0
    languages: Sequence[Language] = ("en",)
    arms: Arms = field(default_factory=lambda: PLAIN)
    seed: int = 0

    def bodies(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each arm's request bodies, without end."""
        dice = random.Random(self.seed)  # noqa: S311 - repeatable is what is wanted
        systems = [self._text(f"prefix {number}", number, self.prefix_tokens) for number in range(self.prefixes)]
        for turn in count():
            number = dice.randrange(self.questions) if self.questions else turn
            messages = [{"role": "user", "content": self._text(f"request {number:010d}", number, self.prompt_tokens)}]
            if systems:
                messages.insert(0, {"role": "system", "content": systems[number % len(systems)]})
            for arm, extras in self.arms.items():
                yield arm, self._body(messages, extras)

    def orders(self, target: Target) -> Iterator[Order]:
        """The same as requests to ``target``."""
        for arm, body in self.bodies():
            yield Order(arm, target.post(json.dumps(body, ensure_ascii=False).encode()))

    def _body(self, messages: Sequence[Mapping[str, str]], extras: Mapping[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "temperature": 0,  # or no answer would be stored
            "max_tokens": self.max_tokens,
            "stream": self.stream,
        }
        if self.stream:
            body["stream_options"] = {"include_usage": True}
        return body | ({"genkan": extras} if extras else {})

    def _text(self, title: str, number: int, tokens: int) -> str:
        """Begins with its title, so that two never begin alike; fake upstreams want the number of the request in it."""
        language = self.languages[number % len(self.languages)]
        words = random.Random(f"{self.seed}/{title}").choices(  # noqa: S311
            _WORDS[language].split(), k=max(1, round(tokens / _TOKENS_A_WORD[language]))
        )
        return f"[{self.seed} {title}] {' '.join(words)}. {_OPENING[language]}"
