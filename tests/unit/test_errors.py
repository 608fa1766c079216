"""The tree of errors, as drawn and as it is, and what the errors say."""

import inspect
import re

import pytest

from genkan import errors
from genkan.errors import (
    BodyTooLarge,
    BudgetSpent,
    ConfigError,
    ContextTooLong,
    GenkanError,
    InternalError,
    ModelNotFound,
    NoUpstream,
    RateLimited,
    ReaderTooSlow,
    RequestError,
    TimedOut,
    UnsupportedOption,
    UpstreamFailed,
    UpstreamQuota,
    UpstreamRefused,
    UpstreamThrottled,
    WrongMethod,
)

CLASSES = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}
REQUEST_ERRORS = [value for value in CLASSES.values() if issubclass(value, RequestError)]


def drawn() -> dict[str, tuple[str, int | None]]:
    """Each class in the module's docstring: the one it hangs from, and its status if one is drawn."""
    tree = inspect.getdoc(errors) or ""
    lines = tree[tree.index("GenkanError") : tree.index("\n\n`")].splitlines()
    found: dict[str, tuple[str, int | None]] = {}
    last_at: dict[int, str] = {-1: "Exception"}
    for line in lines:
        branch, text = re.fullmatch(r"([│├└─ ]*)(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
        depth = len(branch) // 3
        classes = re.split(r" {2,}", text)[0].split(" · ")
        for each in classes:
            name, status = re.fullmatch(r"(\w+)(?: (\d{3}))?(?:\(.*\))?", each).groups()  # type: ignore[union-attr]
            assert name not in found
            found[name] = (last_at[depth - 1], int(status) if status else None)
            last_at[depth] = name
    return found


def test_the_tree_has_every_class_and_no_other() -> None:
    assert set(drawn()) == {name for name, value in CLASSES.items() if issubclass(value, Exception)}


def test_every_class_hangs_from_its_base() -> None:
    assert {name: parent for name, (parent, _) in drawn().items()} == {
        name: value.__base__.__name__ for name, value in CLASSES.items() if value.__base__
    }


def test_every_class_has_the_status_that_is_drawn() -> None:
    statuses = {name: status for name, (_, status) in drawn().items() if status}
    assert statuses == {error.__name__: error.status for error in REQUEST_ERRORS if error.__name__ in statuses}


def test_only_bases_and_an_upstreams_own_error_have_no_status_drawn() -> None:
    tree = drawn()
    without = {error.__name__ for error in REQUEST_ERRORS if tree[error.__name__][1] is None}
    assert without == {"RequestError", "UpstreamError", "UpstreamRefused"}


@pytest.mark.parametrize("error", [value for name, value in CLASSES.items() if issubclass(value, GenkanError)])
def test_every_class_says_in_a_sentence_what_it_means(error: type[GenkanError]) -> None:
    assert (error.__doc__ or "").split("\n")[0].endswith(".")


@pytest.mark.parametrize("error", REQUEST_ERRORS)
def test_an_error_that_is_the_clients_is_named_a_request_error(error: type[RequestError]) -> None:
    # 429 is not the request's fault: the same one may be sent again, and by their type clients know it.
    assert (error.type == "invalid_request_error") == (400 <= error.status < 500 and error.status != 429)
    own = {"rate_limit_error": error is UpstreamThrottled, "insufficient_quota": error is BudgetSpent}
    assert all((error.type == kind) is is_its for kind, is_its in own.items())
    assert (error.status == 429) == (error in {UpstreamThrottled, BudgetSpent, RateLimited})


#: Their instances know better: who is asked to come back when depends on the deployments that are left alone, or on
#: the upstream's own word; and money that is spent does not come back by waiting.
SAYS_WHEN_BY_ITSELF = {NoUpstream, UpstreamThrottled, UpstreamQuota}


@pytest.mark.parametrize("error", [value for value in REQUEST_ERRORS if value not in SAYS_WHEN_BY_ITSELF])
def test_lack_of_capacity_says_when_to_come_back_and_nothing_else_does(error: type[RequestError]) -> None:
    assert (error.retry_after_s is not None) == (error.status == 503)


@pytest.mark.parametrize("after_s", [1.0, 30.0])
def test_that_nobody_is_well_or_has_room_says_for_how_long(after_s: float) -> None:
    assert NoUpstream("m", retry_after_s=after_s).retry_after_s == after_s
    assert UpstreamThrottled(upstream="u", retry_after_s=after_s).retry_after_s == after_s


@pytest.mark.parametrize(
    ("there", "status", "kind", "code"),
    [
        (500, 502, "server_error", "upstream_error"),
        (501, 502, "server_error", "upstream_error"),
        (502, 503, "service_unavailable_error", "upstream_unavailable"),
        (503, 503, "service_unavailable_error", "upstream_unavailable"),
        (529, 503, "service_unavailable_error", "server_is_overloaded"),
        (504, 504, "server_error", "upstream_timeout"),
        (408, 504, "server_error", "upstream_timeout"),
    ],
)
def test_an_upstreams_failure_is_shown_as_what_it_means(there: int, status: int, kind: str, code: str) -> None:
    error = UpstreamFailed(upstream="u", status_there=there, retry_after_s=2.0)
    assert (error.status, error.type, error.code, error.retry_after_s) == (status, kind, code, 2.0)
    assert str(there) in error.message


def test_one_upstreams_failure_does_not_change_the_class() -> None:
    UpstreamFailed(upstream="u", status_there=503)
    assert (UpstreamFailed.status, UpstreamFailed.type, UpstreamFailed.code) == (502, "server_error", "upstream_error")


def test_a_wrong_setting_begins_with_its_path() -> None:
    error = ConfigError("upstreams[0].kind", "is wrong")
    assert (str(error), error.path) == ("upstreams[0].kind: is wrong", "upstreams[0].kind")


def test_a_wrong_file_has_no_path_to_begin_with() -> None:
    assert str(ConfigError("", "cannot read it")) == "cannot read it"


def test_a_context_that_is_too_long_says_how_much_was_asked_for() -> None:
    error = ContextTooLong(limit_tokens=100, prompt_tokens=90, max_tokens=20, param="messages")
    assert "maximum context length is 100 tokens. However, you requested 110 tokens (90 in the prompt" in error.message
    assert (error.limit_tokens, error.given_tokens, error.param) == (100, 110, "messages")


def test_a_prompt_that_was_not_counted_to_its_end_says_at_least() -> None:
    error = ContextTooLong(limit_tokens=100, prompt_tokens=101, max_tokens=1, param="messages")
    assert "requested at least 102 tokens (at least 101 in the prompt" in error.message


def test_an_unsupported_option_says_which_and_why() -> None:
    error = UnsupportedOption("top_k", "because")
    assert (error.message, error.param) == ("'top_k' is not supported by this model: because", "top_k")


def test_a_model_that_is_not_found_repeats_only_the_beginning_of_a_long_name() -> None:
    error = ModelNotFound("m" * 9999)
    assert "'" + "m" * 200 + "…'" in error.message
    assert error.param == "model"


def test_a_wrong_method_says_which_are_right() -> None:
    assert WrongMethod("PUT", "/v1/models", ["GET", "HEAD"]).message == (
        "PUT is not allowed on /v1/models; allowed: GET, HEAD."
    )


@pytest.mark.parametrize(("given", "text"), [(11, "11 bytes"), (None, "more")])
def test_a_body_that_is_too_large_says_the_limit(given: int | None, text: str) -> None:
    message = BodyTooLarge(limit_bytes=10, given_bytes=given).message
    assert message == f"The request body must be at most 10 bytes; given: {text}."


def test_a_reader_that_is_too_slow_is_told_how_far_behind_it_was() -> None:
    error = ReaderTooSlow(1024)
    assert error.message == "The answer was cancelled: 1024 tokens of it waited to be read."
    assert (error.limit_tokens, error.code) == (1024, "reader_too_slow")


def test_a_timeout_says_in_which_phase() -> None:
    error = TimedOut(upstream="engine", phase="first_token", limit_s=0.5)
    assert "first_token took more than 0.5 s" in error.message
    assert error.upstream == "engine"


def test_an_upstreams_own_error_keeps_all_its_names() -> None:
    error = UpstreamRefused(
        "no", upstream="u", status=418, kind="teapot_error", code="short", param="spout", retry_after_s=2.0
    )
    assert (error.message, error.upstream, error.status, error.type) == ("no", "u", 418, "teapot_error")
    assert (error.code, error.param, error.retry_after_s) == ("short", "spout", 2.0)


def test_one_upstreams_error_does_not_change_the_class() -> None:
    UpstreamRefused("no", upstream="u", status=418, kind="t", code="c", param=None, retry_after_s=None)
    assert (UpstreamRefused.status, UpstreamRefused.code) == (500, None)


@pytest.mark.parametrize(
    ("code", "status", "outcome"),
    [
        ("context_length_exceeded", 400, "context_length_exceeded"),
        ("content_filter", 400, "content_filter"),
        ("server_is_overloaded", 503, "server_is_overloaded"),
        ("engine_unavailable", 503, "engine_unavailable"),
        ("engine_error", 500, "engine_error"),
        ("server_shutting_down", 503, "server_shutting_down"),
        ("reader_too_slow", 408, "reader_too_slow"),
        ("internal_error", 500, "upstream_error"),
        ("internal_error", 400, "refused"),
        ("ok", 400, "refused"),
        ("lost", 400, "refused"),
        ("client_gone", 400, "refused"),
        ("client_gone", 500, "upstream_error"),
        ("x" * 2000, 400, "refused"),
        (None, 400, "refused"),
    ],
)
def test_what_an_upstream_calls_its_error_is_recorded_only_if_it_is_a_word_of_ours(
    code: str | None, status: int, outcome: str
) -> None:
    error = UpstreamRefused("no", upstream="u", status=status, kind="ok", code=code, param=None, retry_after_s=None)
    assert error.outcome == outcome


def test_our_own_errors_are_recorded_by_their_code_or_else_their_type() -> None:
    assert TimedOut(upstream="u", phase="total", limit_s=1.0).outcome == "upstream_timeout"
    assert RequestError("x").outcome == "server_error"


def test_a_bug_of_ours_tells_the_client_nothing() -> None:
    assert (InternalError().message, InternalError().status) == (
        "The server had an error while processing your request.", 500
    )  # fmt: skip
