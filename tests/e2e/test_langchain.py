"""LangChain's ChatOpenAI against a running genkan: it streams, calls tools, and gets what it asks for as an object."""

from collections.abc import Callable
from typing import Any

import pytest
from e2e.live_server import LiveServer
from pydantic import BaseModel, Field

langchain_openai = pytest.importorskip("langchain_openai", reason="LangChain is not installed here: make test does it")

# LangChain warns of things of its own.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
QUESTION = "What is the weather in Hà Nội?"
MakeChat = Callable[..., Any]


class Visit(BaseModel):
    """A visit to a city."""

    city: str = Field(max_length=12)
    guests: int = Field(ge=1, le=9)


class GetWeather(BaseModel):
    """The weather of a city now."""

    city: str = Field(max_length=12)


@pytest.fixture
def make_chat(server: LiveServer) -> MakeChat:
    def make(**options: Any) -> Any:
        about = {"base_url": f"{server.base_url}/v1", "api_key": "unused", "model": "default", "max_retries": 0}
        return langchain_openai.ChatOpenAI(**{**about, "timeout": 60, "temperature": 0, **options})

    return make


def test_it_asks_and_reads_the_usage(make_chat: MakeChat) -> None:
    answer = make_chat(max_tokens=6).invoke([("system", "Be brief."), ("user", QUESTION)])
    assert answer.content
    assert answer.usage_metadata["output_tokens"] <= 6
    assert answer.response_metadata["finish_reason"] in ("stop", "length")


def test_it_streams(make_chat: MakeChat) -> None:
    chunks = [*make_chat(max_tokens=6, stream_usage=True).stream(QUESTION)]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert len(chunks) > 2
    assert whole.content
    assert 1 <= whole.usage_metadata["output_tokens"] <= 6


@pytest.mark.anyio
async def test_it_streams_without_blocking(make_chat: MakeChat) -> None:
    texts = [chunk.content async for chunk in make_chat(max_tokens=6).astream(QUESTION)]
    assert "".join(texts)


def test_it_calls_tools_and_sends_their_results(make_chat: MakeChat) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage

    chat = make_chat(max_tokens=90)
    asked = HumanMessage(QUESTION)
    one = chat.bind_tools([GetWeather], tool_choice="required", parallel_tool_calls=False)
    call = one.invoke([asked])
    (made,) = call.tool_calls
    assert made["name"] == "GetWeather"
    assert len(GetWeather.model_validate(made["args"]).city) <= 12
    answer = make_chat(max_tokens=6).invoke([asked, call, ToolMessage("31 degrees", tool_call_id=made["id"])])
    assert answer.content


def test_it_streams_calls(make_chat: MakeChat) -> None:
    one = make_chat(max_tokens=90).bind_tools([GetWeather], tool_choice="required", parallel_tool_calls=False)
    chunks = [*one.stream(QUESTION)]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert [call["name"] for call in whole.tool_calls] == ["GetWeather"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_it_gets_an_object(make_chat: MakeChat, method: str) -> None:
    visit = make_chat(max_tokens=60).with_structured_output(Visit, method=method).invoke(QUESTION)
    assert isinstance(visit, Visit)
    assert 1 <= visit.guests <= 9
