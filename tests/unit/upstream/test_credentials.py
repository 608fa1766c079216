"""Keys, and what can be told of them without asking anyone."""

import random
import string

import pytest

from genkan.config import OpenAiUpstreamConfig
from genkan.upstream.credentials import Credential, find_key

KEY = "sk-9fQ2mZ7cLxV4tB8nR1wK6yH3"
CLOUD = "https://api.vendor.io/v1"
HOME = "http://127.0.0.1:8000/v1"
PROVIDERS = (
    "https://api.openai.com/v1",
    "https://api.deepseek.com",
    "https://generativelanguage.googleapis.com/v1beta/openai",
    "https://api.anthropic.com/v1",
    "https://api.holysheep.ai/v1",
)


def found(key: str | None, base_url: str = CLOUD) -> Credential:
    upstream = OpenAiUpstreamConfig(name="up", kind="openai", base_url=base_url, api_key_env="UP_KEY")
    credential = find_key(upstream, {} if key is None else {"UP_KEY": key})
    for message in (credential.problem, credential.warning):
        if message is not None:
            assert message.startswith("UP_KEY ")
            assert not key or key == "EMPTY" or key.strip() == "" or key not in message
    return credential


def test_an_upstream_without_a_variable_gets_no_key() -> None:
    upstream = OpenAiUpstreamConfig(name="up", kind="openai", base_url=CLOUD)
    assert find_key(upstream, {"UP_KEY": KEY}) == Credential(None, None, None)


@pytest.mark.parametrize("base_url", [CLOUD, HOME, *PROVIDERS])
def test_a_plain_key_is_used_as_it_stands(base_url: str) -> None:
    assert found(KEY, base_url) == Credential(KEY)


def test_the_key_shows_nowhere() -> None:
    credential = found(KEY)
    assert KEY not in f"{credential} {credential!r} {[credential]}"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (None, "is not set"),
        ("", "is empty"),
        (" \t\n", "holds only blanks"),
        (f" {KEY}", "begins with a blank"),
        (f"\u00a0{KEY}", "begins with a blank"),
        (f"{KEY}\t", "ends with a blank"),
        (f"{KEY}\n", "ends with a line break"),
        (f"\r\n{KEY}", "begins with a line break"),
        (f'"{KEY}"', "begins with a quote"),
        (f"{KEY}'", "ends with a quote"),
        (f"“{KEY}”", "begins with a quote"),
        (f"Bearer {KEY}", "begins with 'Bearer'"),
        (f"UP_KEY={KEY}", "begins with 'UP_KEY='"),
        (f"export UP_KEY={KEY}", "begins with 'export'"),
        (f"{KEY} {KEY}", "has a blank or a line break inside"),
        (f"{KEY}\n{KEY}", "has a blank or a line break inside"),
        (f'{KEY}"{KEY}', "has a quote inside"),
        (f"{KEY}é", "not printable ASCII"),
        (f"\ufeff{KEY}", "not printable ASCII"),
        (f"{KEY}\x00", "not printable ASCII"),
        (f"{KEY}\udcff", "not printable ASCII"),  # a byte that is no UTF-8, as Python shows it in the environment
        ("k3yAb9Z", "has 7 characters; a key has at least 20"),
        ("q", "has 1 character; a key has at least 20"),
        (KEY[:19], "has 19 characters"),
    ],
)
def test_what_cannot_be_a_key_is_named_and_never_used(key: str | None, says: str) -> None:
    credential = found(key)
    assert credential.value is None
    assert says in (credential.problem or "")


def test_twenty_characters_are_enough() -> None:
    assert found(KEY[:20]).problem is None


PLACEHOLDERS = [
    "YOUR_HOLYSHEEP_API_KEY",
    "your-api-key",
    "your_api_key_here_please",
    "sk-your-key",
    "yourapikeygoesinhere1",
    "<key>",
    "<your key>",
    "${OPENAI_API_KEY}",
    "$OPENAI_API_KEY",
    "$(OPENAI_API_KEY)",
    "%OPENAI_API_KEY%",
    "{{ secrets.OPENAI }}",
    "sk-...",
    "sk-proj-****************abcd",
    "insert-your-key-here",
    "CHANGEME",
    "[REDACTED]",
]
FILLERS = [
    "EMPTY",
    "empty",
    "none",
    "dummy",
    "test",
    "test-key",
    "sk-test",
    "example-key",
    "sk-xxx",
    "xxxx",
    "XXXXXXXXXXXXXXXXXXXXXXXXXXXX",
    "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "sk-proj-xxxxxxxxxxxxxxxxxxxxxxxx",
    "AIzaSyXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
    "00000000-0000-0000-0000-000000000000",
    "replace-me",
    "change_me",
    "my_secret_key",
    "OPENAI_API_KEY",
    "not-needed",
    "sk-no-key-required",
    "sk-1234567890abcdef1234567890abcdef",
    "abcdefghijklmnopqrstuvwxyz",
    "lm-studio",
]


@pytest.mark.parametrize("key", [*PLACEHOLDERS, *FILLERS])
def test_a_placeholder_is_no_key(key: str) -> None:
    assert found(key) == Credential(problem="UP_KEY holds a placeholder, not a key")


@pytest.mark.parametrize("key", PLACEHOLDERS)
def test_a_form_that_nobody_filled_in_is_no_key_at_home_either(key: str) -> None:
    assert found(key, HOME).problem == "UP_KEY holds a placeholder, not a key"


@pytest.mark.parametrize("key", FILLERS)
def test_a_server_at_home_may_be_run_with_any_key(key: str) -> None:
    assert found(key, HOME).value == key


@pytest.mark.parametrize(
    ("alphabet", "prefix", "length"),
    [
        (string.ascii_letters + string.digits, "sk-", 48),
        (string.hexdigits[:16], "sk-", 32),
        (string.ascii_letters + string.digits + "-_", "AIza", 35),
        (string.ascii_letters + string.digits + "-_", "hs-", 40),
        (string.ascii_letters + string.digits + "+/=", "", 44),
        (string.ascii_uppercase + string.digits, "", 20),
    ],
)
def test_random_keys_are_never_taken_for_something_else(alphabet: str, prefix: str, length: int) -> None:
    base_url = "https://generativelanguage.googleapis.com/v1beta/openai" if prefix == "AIza" else CLOUD
    upstream = OpenAiUpstreamConfig(name="up", kind="openai", base_url=base_url, api_key_env="UP_KEY")
    choose = random.Random(7)
    for _ in range(3000):
        key = prefix + "".join(choose.choices(alphabet, k=length))
        assert find_key(upstream, {"UP_KEY": key}) == Credential(key), key


@pytest.mark.parametrize(
    "base_url",
    [
        "http://localhost:8000/v1",
        "http://vllm:8000/v1",
        "http://[::1]:8000/v1",
        "http://[fd00::7]/v1",
        "http://10.1.2.3/v1",
        "http://172.16.0.9:30000/v1",
        "http://192.168.1.20:11434/v1",
        "http://100.64.0.3/v1",
        "http://gpu.local/v1",
        "http://vllm.models.svc.cluster.local/v1",
        "http://host.docker.internal:8000/v1",
    ],
)
def test_at_home_a_short_key_is_only_a_warning_and_clear_text_is_nothing(base_url: str) -> None:
    assert found("hunter2", base_url) == Credential(
        "hunter2", warning="UP_KEY has 7 characters; that is easily guessed"
    )
    assert found(KEY, base_url) == Credential(KEY)


@pytest.mark.parametrize(
    "base_url", ["http://api.vendor.io/v1", "http://8.8.8.8/v1", "http://172.32.0.1/v1", "http://[2606:4700::1]/v1"]
)
def test_a_key_never_travels_to_a_public_host_in_clear_text(base_url: str) -> None:
    credential = found(KEY, base_url)
    assert credential.value is None
    assert "in clear text; begin base_url with https://" in (credential.problem or "")


REST = "9fQ2mZ7cLxV4tB8nR1wK6yH3"


@pytest.mark.parametrize(
    ("key", "owner", "home"),
    [
        (f"sk-ant-api03-{REST}", "Anthropic", "https://api.anthropic.com/v1"),
        (f"AIza{REST}", "Google", "https://us-central1-aiplatform.googleapis.com/v1"),
        (f"sk-or-v1-{REST}", "OpenRouter", "https://openrouter.ai/api/v1"),
        (f"gsk_{REST}", "Groq", "https://api.groq.com/openai/v1"),
        (f"xai-{REST}", "xAI", "https://api.x.ai/v1"),
        (f"pplx-{REST}", "Perplexity", "https://api.perplexity.ai"),
        (f"hf_{REST}", "Hugging Face", "https://router.huggingface.co/v1"),
        (f"nvapi-{REST}", "NVIDIA", "https://integrate.api.nvidia.com/v1"),
        (f"fw_{REST}", "Fireworks", "https://api.fireworks.ai/inference/v1"),
        (f"csk-{REST}", "Cerebras", "https://api.cerebras.ai/v1"),
        (f"sk-proj-{REST}", "OpenAI", "https://api.openai.com/v1"),
        (f"sk-svcacct-{REST}", "OpenAI", "https://eu.api.openai.com/v1"),
    ],
)
def test_a_key_goes_to_those_who_gave_it_out_only(key: str, owner: str, home: str) -> None:
    assert found(key, home) == Credential(key)
    deepseek = found(key, "https://api.deepseek.com")
    assert deepseek == Credential(problem=f"UP_KEY holds a key of {owner}, and api.deepseek.com is of DeepSeek")
    relay = found(key, "https://relay.vendor.io:8443/v1")
    assert relay == Credential(problem=f"UP_KEY holds a key of {owner}, and relay.vendor.io is not theirs")


@pytest.mark.parametrize("host", ["evilopenai.com", "api.openai.com.evil.io", "openai.com-evil.io"])
def test_a_name_that_merely_looks_like_an_owners_is_not_the_owner(host: str) -> None:
    key = f"sk-proj-{REST}"
    assert found(key, f"https://{host}/v1").problem == f"UP_KEY holds a key of OpenAI, and {host} is not theirs"
    assert found(key, "https://API.OpenAI.com.:443/v1").value == key


def test_a_providers_key_for_a_proxy_at_home_is_a_warning() -> None:
    key = f"sk-ant-api03-{REST}"
    assert found(key, HOME) == Credential(key, warning="UP_KEY holds a key of Anthropic, and goes to 127.0.0.1")


def test_a_proxy_that_takes_the_providers_own_key_gets_it() -> None:
    key = f"sk-proj-{REST}"
    assert found(key, "https://gateway.ai.cloudflare.com/v1/acc/gw/openai").value == key
