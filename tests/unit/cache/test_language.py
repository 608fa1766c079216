"""Which language a text is in."""

import pytest

from genkan.cache.language import LEXICONS, language


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("How do I reset my password?", "en"),
        ("Reset password", "en"),
        ("Where is the café?", "en"),
        ("Làm sao để đổi mật khẩu?", "vi"),
        ("Phí giao hàng là bao nhiêu?", "vi"),
        ("Gói 5GB giá bao nhiêu?", "vi"),
        ("비밀번호를 어떻게 바꾸나요?", "ko"),
        ("Gmail 비밀번호를 바꾸는 방법", "ko"),
        ("lam sao de doi mat khau", None),
        ("Comment réinitialiser mon mot de passe ?", None),
        ("Wie setze ich mein Passwort zurück?", None),
        ("パスワードを変更するには？", None),
        ("如何修改密码", None),
        ("Как сменить пароль?", None),
        ("How do I say 비밀번호 in English?", None),
        ("123 456", None),
        ("", None),
    ],
)
def test_the_language_or_none(text: str, name: str | None) -> None:
    assert language(text) == name


@pytest.mark.parametrize("name", ["en", "vi", "ko"])
def test_no_word_is_on_both_sides_of_an_opposition_as_its_synonyms_are_one(name: str) -> None:
    lexicon = LEXICONS[name]
    first_words = set(lexicon.meaning.values())
    assert all(lexicon.meaning.get(word, word) == word for word in first_words), "a synonym of a synonym"
    assert all(lexicon.meaning.get(word, word) == word for word in lexicon.poles), "a pole nobody arrives at"
