"""Stems, and what hangs on them."""

import pytest

from genkan.cache import words_en, words_ko


@pytest.mark.parametrize(
    "forms",
    [
        ("cancel", "cancels", "canceled", "canceling"),
        ("stop", "stops", "stopped", "stopping"),
        ("charge", "charges", "charged", "charging"),
        ("city", "cities"),
        ("pay", "paid", "paying"),
        ("child", "children"),
    ],
)
def test_the_forms_of_an_english_word_have_one_stem(forms: tuple[str, ...]) -> None:
    assert len({words_en.stem(form) for form in forms}) == 1


@pytest.mark.parametrize(("one", "two"), [("bus", "bu"), ("thing", "th"), ("address", "addres"), ("is", "i")])
def test_what_only_looks_like_an_ending_stays(one: str, two: str) -> None:
    assert words_en.stem(one) != two


@pytest.mark.parametrize(
    "forms",
    [
        ("바꾸나요", "바꾸려면", "바꾸고", "바꿔요", "변경하는", "변경을", "변경"),
        ("비밀번호", "비밀번호를", "비밀번호는", "비밀번호가", "비밀번호도"),
        ("카카오페이", "카카오페이로", "카카오페이는"),
        ("와이파이", "와이파이는", "와이파이를"),
        ("결제하나요", "결제할", "결제가", "결제되나요"),
        ("켜는", "켜요", "켜고", "켜지"),
    ],
)
def test_the_forms_of_a_korean_word_have_one_stem(forms: tuple[str, ...]) -> None:
    assert len({words_ko.stem(form) for form in forms}) == 1


@pytest.mark.parametrize(
    ("verb", "compound"),
    [("가입", "가입비"), ("설치", "설치비"), ("배송", "배송비"), ("조회", "조회수"), ("할인", "할")],
)
def test_a_compound_is_not_the_verb_in_it(verb: str, compound: str) -> None:
    assert words_ko.stem(verb) != words_ko.stem(compound)


@pytest.mark.parametrize(
    ("word", "role"),
    [
        ("서울에서", "source"),
        ("부산까지", "goal"),
        ("엔화로", "goal"),
        ("금보다", "less"),
        ("돈을", "object"),
        ("개가", "subject"),
        ("방법", None),
    ],
)
def test_particles_tell_the_role(word: str, role: str | None) -> None:
    assert words_ko.role(word) == role
