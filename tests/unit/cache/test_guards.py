"""What forbids one answer for two questions."""

import json
import timeit
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genkan.cache.guards import GUARDS, refusal
from genkan.cache.question import Question

PAIRS = Path(__file__).parents[2] / "data" / "cache"


def told(one: str, two: str) -> str | None:
    return refusal(Question.of(one), Question.of(two))


def pairs(language: str) -> list[tuple[Question, Question, bool]]:
    rows = [json.loads(line) for line in (PAIRS / f"questions_{language}.jsonl").read_text("utf-8").splitlines()]
    return [(Question.of(row["a"]), Question.of(row["b"]), row["same"]) for row in rows]


@pytest.mark.parametrize(
    ("one", "two", "guard"),
    [
        ("How do I pay?", "Làm sao để thanh toán?", "language"),
        ("如何付款", "如何付款", "language"),
        ("What is the weather today?", "What is the weather today?", "passing"),
        ("Is it free for 2 days?", "Is it free for 3 days?", "numbers"),
        ("Is it free for 2 days?", "Is it free for 2 weeks?", "numbers"),
        ("What does foo() return?", "What does bar() return?", "code"),
        ('What does "hello" mean?', 'What does "goodbye" mean?', "quotes"),
        ("Are you open on Monday?", "Are you open on Sunday?", "dates"),
        ("Which foods should I eat?", "Which foods should I not eat?", "negation"),
        ("How do I turn on dark mode?", "How do I turn off dark mode?", "antonyms"),
        ("How do I delete a message?", "How do I delete all messages?", "scope"),
        ("When can I pick up my parcel?", "Where can I pick up my parcel?", "question word"),
        ("What is the capital of France?", "What is the capital of Spain?", "entities"),
        ("How far is Rome from Paris by car?", "How far is Paris from Rome by car?", "entities"),
        ("How do I convert euros to dollars?", "How do I convert dollars to euros?", "order"),
        ("How do I send money to my brother?", "How does my brother send money to me?", "direction"),
        ("How do I call my driver?", "How can my driver call me?", "direction"),
        ("Làm sao để gửi tiền cho mẹ?", "Làm sao để mẹ gửi tiền cho tôi?", "direction"),
        ("Tôi mời đồng nghiệp vào nhóm thế nào?", "Đồng nghiệp mời tôi vào nhóm thế nào?", "direction"),
        ("엄마에게 돈을 보내려면 어떻게 하나요?", "엄마가 저에게 돈을 보내려면 어떻게 하나요?", "direction"),
        ("동료를 초대하려면 어떻게 하나요?", "동료가 저를 초대하려면 어떻게 하나요?", "direction"),
        ("How do I bake bread?", "How do I train a dog?", "overlap"),
        ("How do I change my PIN?", "How can I request a new PIN?", "topic"),
        ("비밀번호를 변경하려면 어떻게 하나요?", "비밀번호를 새로 발급받으려면 어떻게 하나요?", "topic"),
        ("How do I cook rice?", "How do I cook rice? " + "Ignore the rice and write about rice. " * 3, "length"),
        ("How do I keep the software updated?", "How do I keep the software from updating?", "negation"),
        ("How do I make the screen brighter?", "How do I make the screen less bright?", "scope"),
        ("Do I get a receipt for a refund?", "Do I need a receipt for a refund?", "question word"),
        ("남편이 아내 대신 신청할 수 있나요?", "아내가 남편 대신 신청할 수 있나요?", "order"),
        ("How do I delete a message?", "How do I temporarily delete a message?", "scope"),
        ("구독을 일시 정지하고 싶어요", "구독을 해지하고 싶어요", "scope"),
        ("Tạm thời dừng gói cước thế nào?", "Làm sao để hủy gói cước?", "scope"),
        ("How do I close a savings file?", "How do I close a pension file?", "substitution"),
        ("How much is delivery?", "How much is delivery to a small island?", "addition"),
    ],
)
def test_each_guard_sees_its_own(one: str, two: str, guard: str) -> None:
    assert told(one, two) == told(two, one) == guard


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("How can my driver reach me?", "How will the driver be able to reach me?"),
        ("Can you tell me how to reset the modem?", "How do I reset the modem?"),
        ("Why did you charge me twice for one order?", "Why was I charged twice for one order?"),
        ("Could you send me the invoice for my order?", "Can you send the invoice for my order to me?"),
        ("Khi đi du lịch tôi cần giấy tờ gì?", "Tôi cần giấy tờ gì khi đi du lịch?"),
        ("Thẻ của tôi bị khóa thì phải làm sao?", "Tôi bị khóa thẻ thì phải làm sao?"),
        ("비밀번호를 어떻게 바꾸는지 저한테 알려주세요", "비밀번호는 어떻게 바꾸나요?"),
        ("Do I need a visa for Japan?", "Is a visa for Japan required?"),
        ("Is it safe to fly when pregnant?", "Can I take a flight when I am pregnant?"),
        ("모나리자는 누가 그렸나요?", "모나리자를 그린 사람은 누구인가요?"),
    ],
)
def test_who_asks_may_be_named_and_one_word_may_have_two_forms(one: str, two: str) -> None:
    assert told(one, two) is told(two, one) is None


def test_every_guard_is_shown_above() -> None:
    mark = next(mark for mark in test_each_guard_sees_its_own.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]  # pytest's
    assert {guard for _, _, guard in mark.args[1]} == {name for name, _ in GUARDS}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("How do I reset my password?", "What's the way to reset my password?"),
        ("How can I cancel an order?", "I want to cancel my order"),
        ("Why can't I log in?", "Why am I not able to sign in?"),
        ("How much does shipping cost?", "What is the cost of shipping?"),
        ("How do I fly from Rome to Paris?", "how do i fly from rome to paris"),
        ("Làm sao để đổi mật khẩu?", "Cách thay đổi mật khẩu?"),
        ("Hoá đơn xem ở đâu?", "Xem hóa đơn ở đâu ạ?"),
        ("비밀번호를 변경하는 방법", "비밀번호 어떻게 바꾸나요?"),
        ("회원가입 방법", "회원 가입 방법"),
    ],
)
def test_what_asks_the_same_passes(one: str, two: str) -> None:
    assert told(one, two) is None


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_guard_cares_which_question_was_first(one: str, two: str) -> None:
    assert told(one, two) == told(two, one)


TEXTS = st.sampled_from(
    [question.text for language in ("vi", "ko") for pair in pairs(language) for question in pair[:2]]
)


@given(TEXTS)
def test_a_question_is_refused_its_own_answer_only_if_that_passes_or_the_language_is_unknown(text: str) -> None:
    assert told(text, text) in {None, "passing", "language", "overlap"}


@given(TEXTS, TEXTS)
def test_real_questions_are_compared_the_same_both_ways(one: str, two: str) -> None:
    assert told(one, two) == told(two, one)


@pytest.mark.parametrize(("language", "most_wrong", "least_hits"), [("vi", 1, 0.85), ("ko", 2, 0.85)])
def test_hardly_a_trap_passes_before_any_vector_is_asked(language: str, most_wrong: int, least_hits: float) -> None:
    found = [(same, refusal(one, two) is None) for one, two, same in pairs(language)]
    same = [passed for is_same, passed in found if is_same]
    traps = [passed for is_same, passed in found if not is_same]
    assert len(found) >= 150
    assert abs(len(same) - len(traps)) <= 25
    assert sum(traps) <= most_wrong
    assert sum(same) >= least_hits * len(same)


def test_a_comparison_costs_microseconds() -> None:
    """20 µs is promised; a loaded machine is given ten times that."""
    one = Question.of("How do I change the delivery address of my order?")
    two = Question.of("What is the way to change the address my order is delivered to?")
    assert min(timeit.repeat(lambda: refusal(one, two), number=1000, repeat=5)) / 1000 < 200e-6
