"""What is only typing, and what is not."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.cache.normal_form import MOST_CHARACTERS, normal_form

SAME = [
    ("How do I reset my password?", "how do i reset my  password"),
    ("How do I reset my password?", "How do I reset my password ??"),
    ("How do I reset my password?", "Hi, how do I reset my password?"),
    ("How do I reset my password?", "Hello there! How do I reset my password? Thanks!"),
    ("How do I reset my password?", "Please, how do I reset my password?! Thank you very much."),
    ("How do I reset my password?", "how do I reset my password."),
    ("How do I reset my password?", "Hi hello, how do I reset my password? Thanks! Thank you."),
    ("Can I cancel?", "can i cancel"),
    ("What’s the price?", "what's the price"),
    ("I'm locked out!!!", "i'm locked out!"),
    ("What is the price of 5 kg?", "what is the price of 5 kg"),
    ("What is 5!?", "What is 5!"),
    ("What is AI?", "what is AI"),
    ("Where is order ２０?", "where is order 20"),
    ("Làm sao để hủy đơn hàng?", "Xin chào shop, làm sao để huỷ đơn hàng ạ?"),
    ("Tại sao tôi không đăng nhập được?", "tại sao tôi không đăng nhập được"),
    ("Đơn hàng của tôi ở đâu?", "Shop ơi, Đơn hàng của tôi ở đâu vậy ạ? Cảm ơn shop"),
    ("Tôi hủy được không?", "tôi hủy được không"),
    ("비밀번호를 어떻게 바꾸나요?", "안녕하세요! 비밀번호를 어떻게 바꾸나요"),
    ("환불이 되나요?", "환불이  되나요?? 감사합니다."),
    ("배송은 언제 되었나요?", "배송은 언제 되었나요"),
    ("취소할 수 있습니까?", "취소할 수 있습니까"),
]
APART = [
    ("What is the US?", "What is us?"),
    ("Where can I buy Polish?", "Where can I buy polish?"),
    ("Polish furniture", "polish furniture"),
    ("May holidays", "may holidays"),
    ("A minor scale", "a minor scale"),
    ("WHO is in charge", "Who is in charge"),
    ("IT is down", "It is down"),
    ("Will it work?", "will it work?"),  # a man's name; a miss is the price
    ("What is 5!", "What is 5?"),
    ("What is n!", "What is n?"),
    ("What is C++?", "What is C?"),
    ("What is ??", "What is ?"),
    ("What does ?? do", "What does ? do"),
    ("What is the regex a?", "What is the regex a"),
    ("is 5 > 3?", "is 5 < 3?"),
    ("What is 1,000?", "What is 1.000?"),
    ("What is 1.5 million?", "What is 15 million?"),
    ("What is -5 squared?", "What is 5 squared?"),
    ("You can cancel.", "You can cancel?"),
    ("You can cancel", "You can cancel?"),
    ("When I cancel, I pay.", "When I cancel, I pay?"),
    ("Do it now.", "Do it now?"),
    ("The cat sat on the", "The cat sat on the."),
    ("Tell me more", "Tell me more..."),
    ('Who said "Hello"?', 'Who said "hello"?'),
    ("Who said 'a  b'?", "Who said 'a b'?"),
    ("def f():\n  x", "def f():\n    x"),
    ("What is `I  f`?", "What is `I f`?"),
    ("What is foo_Bar?", "What is foo_bar?"),
    ("What is x = 5?", "What is X = 5?"),
    ("Hi", "Hello"),
    ("Hi", "Hi?"),
    ("Good morning, what is it in Korean?", "What is it in Korean?"),
    ("How do you say thanks?", "How do you say"),
    ("What is the code of Ａ?", "What is the code of A?"),
    ("What does ’ mean?", "What does ' mean?"),
    ("Who are 👨‍👩‍👧?", "Who are 👨👩👧?"),
    ("Tôi không biết gì.", "Tôi không biết gì?"),
    ("Hòa Bình ở đâu?", "Hòa bình ở đâu?"),
    ("Như là ai?", "như là ai?"),
    ("Hoàn tiền rồi.", "Hoàn tiền rồi?"),
    ("Khi nào rảnh thì gọi.", "Khi nào rảnh thì gọi?"),
    ("배송돼요.", "배송돼요?"),
    ("열이 나요.", "열이 나요?"),
    ("수업이 끝나요.", "수업이 끝나요?"),
    ("추우니까요.", "추우니까요?"),
    ("어디 가요.", "어디 가요?"),
    ("x²", "x2"),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_what_is_typed_otherwise_is_the_same(one: str, two: str) -> None:
    assert normal_form(one) == normal_form(two)


@pytest.mark.parametrize(("one", "two"), APART)
def test_what_may_ask_for_something_else_is_not(one: str, two: str) -> None:
    assert normal_form(one) != normal_form(two)


@given(
    st.text()
    | st.lists(st.sampled_from(["Hi", "please", *",.?!ạ요5", "I", "how", "do", "you", " ", "thanks"])).map("".join)
)
def test_it_is_its_own_normal_form_and_unicodes_form_is_nothing(text: str) -> None:
    once = normal_form(text)
    assert normal_form(once) == once
    assert normal_form(unicodedata.normalize("NFD", text)) == once


@given(st.text(alphabet="0123456789.,+-*/ ()", min_size=1))
def test_numbers_are_what_they_are(text: str) -> None:
    assert [sign for sign in normal_form(text) if sign != " "] == [sign for sign in text if sign != " "]


@pytest.mark.parametrize("begin", ["How do I ", "what ", "Xin chào ", "? ", "안녕 ", "a! " * 10])
def test_a_long_text_costs_little(begin: str) -> None:
    text = (begin * 1000)[: MOST_CHARACTERS * 20]
    assert normal_form(text) == text
