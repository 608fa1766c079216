"""A text taken apart."""

import timeit
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.cache.question import MOST_CHARACTERS, Question


@given(st.text(max_size=200))
def test_any_text_will_do_and_its_normal_form_does_not_matter(text: str) -> None:
    assert Question.of(text) == Question.of(unicodedata.normalize("NFD", text))


def test_a_refused_language_is_only_a_text() -> None:
    assert Question.of("如何修改密码") == Question(text="如何修改密码", language=None)


def test_a_long_text_is_only_a_text_too() -> None:
    long = "How do I pay? " * 200
    assert Question.of(long).language is None
    assert Question.of(long[:MOST_CHARACTERS]).language == "en"
    assert Question.of("How do I pay for " + "a" * 101).language is None


@pytest.mark.parametrize("part", ["a", "a.", "a/", "'a", '"', "a@", "1,", "가", "hoà ", "how many "])
def test_no_text_takes_long(part: str) -> None:
    """A few milliseconds on an idle machine: no pattern goes over the text again and again."""
    text = " ".join([(part * 100)[:100]] * 20)[:MOST_CHARACTERS]
    assert min(timeit.repeat(lambda: Question.of(text), number=1, repeat=3)) < 0.2


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("What costs 1,000 dollars for 2 people?", ("1000 usd", "2")),
        ("What can I do with $50 in the city?", ("50 usd",)),
        ("How do I run 5km in two hours?", ("2 h", "5 km")),
        ("Is the 3rd one on the list 10% off?", ("10 %", "3rd")),
        ("Đơn hàng 500.000 đồng có được miễn phí không?", ("500000 vnd",)),
        ("Sau bảy ngày có được trả hàng không?", ("7 d",)),
        ("3만원 이상이면 무료인가요?", ("3 10000krw",)),
        ("두 명이 묵을 수 있나요?", ("2 people",)),
        ("5GB 요금제는 얼마인가요?", ("5 gb",)),
    ],
)
def test_numbers_have_their_units(text: str, numbers: tuple[str, ...]) -> None:
    assert Question.of(text).numbers == numbers


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("When does the shop open?", "when"),
        ("What time does the shop open?", "when"),
        ("Can you tell me where the shop is?", "where"),
        ("Can I return it?", "yesno"),
        ("What is the reason for the delay?", "why"),
        ("How long does it take?", "howlong"),
        ("How much is it?", "quantity"),
        ("Cancel my order", ""),
        ("Giao hàng mất bao lâu?", "howlong"),
        ("Shop ở đâu vậy?", "where"),
        ("Có được đổi hàng không ạ?", "yesno"),
        ("Tại sao thẻ bị khóa?", "why"),
        ("언제 환불되나요?", "when"),
        ("배송은 얼마나 걸리나요?", "howlong"),
        ("환불되나요?", "yesno"),
        ("왜 안 되나요?", "why"),
    ],
)
def test_what_is_asked_for(text: str, asks: str) -> None:
    assert Question.of(text).asks == asks


@pytest.mark.parametrize(
    ("text", "negations"),
    [
        ("Why can't I log in?", 1),
        ("Why wouldn’t it work?", 1),
        ("Why not use it?", 0),
        ("Có ship hàng không?", 0),
        ("Đơn hàng giao chưa ạ?", 0),
        ("Vì sao tôi không đăng nhập được?", 1),
        ("Đơn hàng chưa giao, tôi phải làm gì?", 1),
        ("앱이 안 열려요", 1),
        ("앱이 열리지 않아요", 1),
        ("안내 부탁드려요", 0),
        ("회원이 아닌 사람도 되나요?", 1),
    ],
)
def test_how_often_it_says_no(text: str, negations: int) -> None:
    assert Question.of(text).negations == negations


@pytest.mark.parametrize(
    ("text", "entities"),
    [
        ("How do I fly from Hanoi to Seoul?", ("hanoi", "seoul")),
        ("Is iPhone better? Yes or no?", ("iphone",)),
        ("How To Lose Weight Fast Without Exercise", ()),
        ("Vé đi Hà Nội giá bao nhiêu?", ("hà", "nội")),
        ("Gmail 비밀번호를 바꾸는 방법", ("gmail",)),
    ],
)
def test_names(text: str, entities: tuple[str, ...]) -> None:
    assert Question.of(text).entities == entities


@pytest.mark.parametrize(
    ("text", "codes", "quotes"),
    [
        ("What does `ls -l` do in the shell?", ("`ls -l`",), ()),
        ("How do I open https://example.com/a in the app?", ("https://example.com/a",), ()),
        ("What is the use of max_tokens here?", ("max_tokens",), ()),
        ("How do I install it on version 3.11.7 of it?", ("3.11.7",), ()),
        ('What does "break a leg" mean?', (), ("break a leg",)),
        ("Is it 5 km to the centre?", (), ()),
    ],
)
def test_code_and_quotations_stand_apart(text: str, codes: tuple[str, ...], quotes: tuple[str, ...]) -> None:
    question = Question.of(text)
    assert (question.codes, question.quotes) == (codes, quotes)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("buying a car", "purchase an automobile for me"),
        ("Làm sao để hủy đơn đặt hàng?", "Cách huỷ đơn hàng"),
        ("비밀번호를 바꾸고 싶어요", "암호를 변경하는 방법"),
        ("카카오페이로 결제하나요?", "카카오페이 결제 방법"),
    ],
)
def test_synonyms_and_forms_are_one_word(one: str, two: str) -> None:
    assert Question.of(one).bag == Question.of(two).bag != frozenset()
