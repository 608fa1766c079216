"""JSON objects whose fields are wrong, or ask for what the engine does not do."""

import json
from collections.abc import Iterator
from typing import Any

from e2e.malformed import CALL, GOOD, GOOD_TEXT, TEXT, WINDOW, Malformed, with_field, wrong_chat, wrong_request


def requests() -> Iterator[Malformed]:
    yield from _unknown_models()
    yield from _wrong_types()
    yield from _numbers_out_of_range()
    yield from _wrong_messages()
    yield from _wrong_prompts()
    yield from _wrong_options()
    yield from _unsupported_options()
    yield from _wrong_extras()
    yield from _too_long()
    yield from _wrong_calls()


def _unknown_models() -> Iterator[Malformed]:
    for model in (
        "gpt-4o", "", " ", "DEFAULT", "default ", "smollm2", "../default", "default\n", "default\u0000", "🦊",
        "{{model}}", "%s%n", "'; drop table models; --", "x" * 256,
    ):  # fmt: skip
        yield with_field("model", model, status=404, code="model_not_found")
    yield with_field("model", "x" * 257, mentions=("256",))
    yield wrong_request(
        "text, unknown model",
        {**GOOD_TEXT, "model": "gpt-4o"},
        status=404,
        code="model_not_found",
        param="model",
        mentions=("gpt-4o",),
        path=TEXT,
    )


def _wrong_types() -> Iterator[Malformed]:
    samples: dict[str, Any] = {"string": "x", "integer": 1, "number": 1.5, "boolean": True, "object": {}, "list": []}
    right = {
        "model": ("string",),
        "messages": ("list",),
        "stream": ("boolean",),
        "max_tokens": ("integer",),
        "max_completion_tokens": ("integer",),
        "temperature": ("integer", "number"),
        "top_p": ("integer", "number"),
        "top_k": ("integer",),
        "min_p": ("integer", "number"),
        "ignore_eos": ("boolean",),
        "cache_salt": ("string",),
        "continue_text": ("string",),
        "seed": ("integer",),
        "stop": ("string", "list"),
        "n": ("integer",),
        "stream_options": ("object",),
        "presence_penalty": ("integer", "number"),
        "frequency_penalty": ("integer", "number"),
        "logit_bias": ("object",),
        "logprobs": ("boolean",),
        "top_logprobs": ("integer",),
        "genkan": ("object",),
        "prompt_cache": ("boolean",),
        "prefix_caching": ("boolean",),
        "cache_ttl_seconds": ("integer",),
        "high_priority": ("boolean",),
        "repetition_penalty": ("integer", "number"),
        "min_tokens": ("integer",),
        "stop_token_ids": ("list",),
        "include_stop_str_in_output": ("boolean",),
        "priority": ("integer",),
        "tools": ("list",),
        "tool_choice": ("string", "object"),
        "parallel_tool_calls": ("boolean",),
        "response_format": ("object",),
        "structured_outputs": ("object",),
    }
    for field, kinds in right.items():
        for kind, value in samples.items():
            if kind not in kinds:
                yield with_field(field, value, code="invalid_type", mentions=(f"'{field}'", "expected"))
    text_right = {"echo": "boolean", "logprobs": "integer", "best_of": "integer", "suffix": "string"}
    for field, right_kind in text_right.items():
        wrong: Any = "1" if right_kind != "string" else 1
        yield wrong_request(
            f"text, {field} {wrong!r}", {**GOOD_TEXT, field: wrong}, code="invalid_type", param=field, path=TEXT
        )
    for field in ("model", "messages"):
        without = {key: value for key, value in GOOD.items() if key != field}
        missing = {"code": "missing_required_parameter", "param": field, "mentions": (f"'{field}'",)}
        yield wrong_request(f"no {field}", without, **missing)
        yield wrong_request(f"{field} null", {**GOOD, field: None}, **missing)
    yield wrong_request("empty object", {}, code="missing_required_parameter", param="model")


def _numbers_out_of_range() -> Iterator[Malformed]:
    ranges: dict[str, tuple[Any, ...]] = {
        "max_tokens": (0, -1, -(2**31), 2**31, 2**63 - 1),
        "max_completion_tokens": (0, -1, 2**31),
        "temperature": (-0.1, -1, 2.01, 1e10, 1e308),
        "top_p": (0, -0.5, 1.0001, 5, 1e308),
        "top_k": (-2, -(2**63), 1_000_001, 2**63 - 1),
        "min_p": (-0.1, -1, 1.0001, 5, 1e308),
        "seed": (2**63, 2**64 - 1),
        "n": (0, -1, 9, 128, 129),
        "presence_penalty": (-2.1, 2.1, 1e308),
        "frequency_penalty": (-3, 3),
        "top_logprobs": (-1, 21),
        "cache_ttl_seconds": (0, -1, 86_401),
        "repetition_penalty": (0, -1, 0.001, 10.1, 1e308),
        "min_tokens": (-1, 2**31),
        "priority": (2**31, -(2**31)),
    }
    for field, values in ranges.items():
        for value in values:
            yield with_field(field, value, mentions=(f"'{field}'", "given"))
    for value in (1.0, 1e3, -0.0):
        yield with_field("max_tokens", value, code="invalid_type")
    for field in ("logprobs", "best_of"):
        yield wrong_request(f"text, {field} 21", {**GOOD_TEXT, field: 21}, param=field, path=TEXT)


def _wrong_messages() -> Iterator[Malformed]:
    def messages(name: str, value: Any, path: str, code: str = "invalid_value") -> Malformed:
        return wrong_chat(f"messages: {name}", messages=value, param=path, _code=code)

    def message(name: str, value: Any, path: str, code: str = "invalid_value") -> Malformed:
        return messages(name, [GOOD["messages"][0], value], f"messages[1]{path}", code)

    wrong_type, missing, unsupported = "invalid_type", "missing_required_parameter", "unsupported_parameter"
    yield messages("none", [], "messages")
    for value in (None, "hi", 5, ["user", "hi"], True):
        yield message(f"a message that is {json.dumps(value)}", value, "", wrong_type)
    yield message("empty object", {}, ".role", missing)
    yield message("no role", {"content": "hi"}, ".role", missing)
    yield message("role null", {"role": None, "content": "hi"}, ".role", missing)
    for role in ("", "User", "bot", "human", "critic", "user "):
        yield message(f"role '{role}'", {"role": role, "content": "hi"}, ".role")
    yield message("role 5", {"role": 5, "content": "hi"}, ".role", wrong_type)
    yield message("role list", {"role": ["user"], "content": "hi"}, ".role", wrong_type)
    for role in ("user", "system", "developer", "tool"):
        yield message(f"no content from {role}", {"role": role}, ".content", wrong_type)
    yield message("content null", {"role": "user", "content": None}, ".content", wrong_type)
    yield message("content 5", {"role": "user", "content": 5}, ".content", wrong_type)
    yield message("content true", {"role": "user", "content": True}, ".content", wrong_type)
    yield message("content object", {"role": "user", "content": {"text": "hi"}}, ".content", wrong_type)
    yield message("no parts", {"role": "user", "content": []}, ".content")
    yield message("part string", {"role": "user", "content": ["hi"]}, ".content[0]", wrong_type)
    yield message("part null", {"role": "user", "content": [None]}, ".content[0]", wrong_type)
    yield message("part without type", {"role": "user", "content": [{"text": "hi"}]}, ".content[0].type", missing)
    yield message("part type 5", {"role": "user", "content": [{"type": 5}]}, ".content[0].type", wrong_type)
    yield message("part without text", {"role": "user", "content": [{"type": "text"}]}, ".content[0].text", missing)
    yield message(
        "part text 5", {"role": "user", "content": [{"type": "text", "text": 5}]}, ".content[0].text", wrong_type
    )
    for kind in ("image_url", "input_audio", "file", "refusal", "video", ""):
        part = {"type": kind, kind: {"url": "http://127.0.0.1/x"}}
        yield message(f"part {kind!r}", {"role": "user", "content": [part]}, ".content[0].type", unsupported)
    yield message("name 5", {"role": "user", "content": "hi", "name": 5}, ".name", wrong_type)
    yield message("result of no call", {"role": "tool", "content": "hi", "tool_call_id": "x"}, ".tool_call_id")
    yield message("result without id", {"role": "tool", "content": "hi"}, ".tool_call_id", missing)
    yield message("function role", {"role": "function", "content": "hi", "name": "x"}, ".role", unsupported)
    yield message(
        "tool calls",
        {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "type": "function"}]},
        ".tool_calls[0].function",
        missing,
    )
    yield message("audio", {"role": "assistant", "content": "", "audio": {"id": "x"}}, ".audio", unsupported)
    yield message("unknown key", {"role": "user", "content": "hi", "cache_control": {}}, ".cache_control", unsupported)


def _wrong_prompts() -> Iterator[Malformed]:
    def prompt(value: Any, path: str = "prompt", code: str = "invalid_value") -> Malformed:
        body = {**GOOD_TEXT, "prompt": value}
        return wrong_request(f"prompt {json.dumps(value)[:40]}", body, path=TEXT, param=path, code=code)

    wrong_type = "invalid_type"
    value: Any
    yield wrong_request("no prompt", {"model": "default"}, path=TEXT, param="prompt", code="missing_required_parameter")
    yield prompt(None, code="missing_required_parameter")
    for value in (5, 1.5, True, {}, {"text": "hi"}):
        yield prompt(value, code=wrong_type)
    for value in ("", [], [""]):
        yield prompt(value)
    yield prompt([[]], "prompt[0]")
    yield prompt(["hi", 5], "prompt[1]", wrong_type)
    yield prompt([5, "hi"], "prompt[1]", wrong_type)
    yield prompt([5, 1.0], "prompt[1]", wrong_type)
    yield prompt([5, True], "prompt[1]", wrong_type)
    yield prompt([5, None], "prompt[1]", wrong_type)
    yield prompt([None], "prompt[0]", wrong_type)
    yield prompt([True], "prompt[0]", wrong_type)
    yield prompt([{}], "prompt[0]", wrong_type)
    yield prompt([[5], "hi"], "prompt[1]", wrong_type)
    yield prompt([[5, [6]]], "prompt[0][1]", wrong_type)
    yield prompt([-1], "prompt[0]")
    yield prompt([5, -(2**63)], "prompt[1]")
    yield prompt([49_152])  # as many ids as there are
    yield prompt([5, 2**63])
    yield prompt(["one"] * 17)
    yield prompt([[5]] * 17)


def _wrong_options() -> Iterator[Malformed]:
    yield with_field("stop", "")
    yield with_field("stop", [""], param="stop[0]")
    yield with_field("stop", ["a", ""], param="stop[1]")
    yield with_field("stop", ["a", 5], param="stop[1]", code="invalid_type")
    yield with_field("stop", ["a", None], param="stop[1]", code="invalid_type")
    yield with_field("stop", ["a", "b", "c", "d", "e"], mentions=("at most 4", "5"))
    yield with_field("stop", "x" * 257, mentions=("256", "257"))
    yield with_field("stop", ["x" * 100_000], param="stop[0]", mentions=("256", "100000"))
    yield with_field("cache_salt", "")
    yield with_field("cache_salt", "x" * 257, mentions=("256", "257"))
    yield with_field("cache_salt", "🦊" * 100_000, mentions=("256", "100000"))
    yield wrong_chat("two limits that differ", max_tokens=1, max_completion_tokens=2)
    yield with_field("stream_options", {"include_usage": True}, mentions=("'stream' is true",))
    for key in ("include_usage", "include_obfuscation"):
        yield wrong_chat(
            f"{key} 1", stream=True, stream_options={key: 1}, param=f"stream_options.{key}", _code="invalid_type"
        )
    yield wrong_chat("stream true, options list", stream=True, stream_options=[], param="stream_options",
                _code="invalid_type")  # fmt: skip
    yield with_field("logit_bias", {"hello": 1})
    yield with_field("logit_bias", {"-1": 1})
    yield with_field("logit_bias", {"1": 101}, param="logit_bias.1")
    yield with_field("logit_bias", {"1": "x"}, param="logit_bias.1", code="invalid_type")
    yield with_field("logit_bias", {str(token): 1 for token in range(301)}, mentions=("300", "301"))
    yield with_field("logit_bias", {"49152": 1}, mentions=("49152",))
    yield with_field("logit_bias", {"9" * 5000: 1})
    yield with_field("stop_token_ids", list(range(65)), mentions=("64", "65"))
    yield with_field("stop_token_ids", [49_152], mentions=("49152",))
    yield with_field("top_logprobs", 20, mentions=("'logprobs' is true",))
    yield wrong_chat("min above max", min_tokens=5, max_tokens=4, param="min_tokens")
    yield wrong_chat("two priorities", priority=1, genkan={"priority": 1}, param="priority")
    yield wrong_chat("format", response_format={"type": "xml"}, param="response_format.type")
    named = {"type": "json_schema", "json_schema": {"name": "no spaces", "schema": {}}}
    yield wrong_chat("format's name", response_format=named, param="response_format.json_schema.name")
    too_much = {**GOOD_TEXT, "logprobs": 20, "n": 8, "max_tokens": 1000}
    yield wrong_request("text, too much: logprobs", too_much, path=TEXT, param="logprobs")
    best = {**GOOD_TEXT, "best_of": 2}
    yield wrong_request("text, best of more", best, path=TEXT, param="best_of", code="unsupported_parameter")


def _unsupported_options() -> Iterator[Malformed]:
    options: dict[str, tuple[Any, ...]] = {
        "functions": ([{"name": "f"}],),
        "function_call": ({"name": "f"},),
        "beam_width": (2, 4, "2", 0),
        "use_beam_search": (True, 1),
        "modalities": (["text", "audio"], ["audio"]),
        "best_of": (2,),
        "echo": (True,),
    }
    unknown = {
        "audio": {"voice": "x"}, "prediction": {"type": "content", "content": "x"}, "reasoning_effort": "high",
        "verbosity": "low", "web_search_options": {}, "bad_words": ["x"], "length_penalty": 1.0, "typical_p": 1.0,
        "mirostat": 1, "num_ctx": 4096, "options": {}, "keep_alive": "5m", "chat_template": "{{x}}",
        "chat_template_kwargs": {}, "add_generation_prompt": True, "continue_final_message": True, "documents": [],
        "truncate_prompt_tokens": 5, "prompt_logprobs": 1, "skip_special_tokens": False, "lora": "x", "api_key": "x",
        "base_url": "http://127.0.0.1:1", "extra_body": {}, "timeout": 5, "Temperature": 0, "temprature": 0,
        "max_token": 5, "system": "x", "input": "x", "prompt": "x", "engine": "x", "": 1, "__proto__": {}, "🦊": 1,
        "a.b": 1, "model ": "default",
    }  # fmt: skip
    for field, values in options.items():
        for value in values:
            yield with_field(field, value, code="unsupported_parameter", mentions=(f"'{field}'", "not supported"))
    for field, value in unknown.items():
        yield with_field(field, value, code="unsupported_parameter", mentions=(f"'{field}'", "does not know"))
    yield with_field("x" * 100_000, 1, param="x" * 200, code="unsupported_parameter")
    for field, value in {
        "suffix": "x", "messages": GOOD["messages"], "tools": [{}], "top_logprobs": 1,
    }.items():  # fmt: skip
        body = {**GOOD_TEXT, field: value}
        yield wrong_request(f"text, {field} unsupported", body, path=TEXT, param=field, code="unsupported_parameter")


def _wrong_extras() -> Iterator[Malformed]:
    def extra(name: str, value: Any, path: str | None = None, **expected: Any) -> Malformed:
        body = {**GOOD, "genkan": {name: value}}
        return wrong_request(
            f"genkan.{name} {json.dumps(value)[:30]}", body, **{"param": path or f"genkan.{name}", **expected}
        )

    wrong_type = "invalid_type"
    value: Any
    for name in ("cach", "Cache", "", "route", "upstream", "model"):
        yield extra(name, 1, mentions=("not known", "cache_ttl_s"))
    yield extra("cache", "always", mentions=("no-store",))
    yield extra("cache", "", mentions=("no-store",))
    yield extra("cache", True, code=wrong_type)
    for value in (0, -1, 30 * 86_400 + 1, 2**63):
        yield extra("cache_ttl_s", value)
    for value in (1.5, "60", True):
        yield extra("cache_ttl_s", value, code=wrong_type)
    for value in (0, 86_401):
        yield extra("prefix_ttl_s", value, mentions=("86400",))
    yield extra("prefix_ttl_s", "60", code=wrong_type)
    for name in ("prefix_cache", "prefix_pin"):
        for value in (1, "true", []):
            yield extra(name, value, code=wrong_type)
    for value in (-101, 101):
        yield extra("priority", value)
    for value in ("high", 1.0, True):
        yield extra("priority", value, code=wrong_type)
    yield extra("tags", "a", code=wrong_type)
    for value in ([1], [""], ["x" * 65], ["x"] * 17, [["a"]]):
        yield extra("tags", value)
    for value in ("never", 5, {"type": "ephemeral"}):
        yield with_field("cache_control", value)
    for short, option, value, other in (
        ("prompt_cache", "prefix_cache", True, False),
        ("prefix_caching", "prefix_cache", False, True),
        ("cache_ttl_seconds", "prefix_ttl_s", 60, 61),
        ("high_priority", "prefix_pin", True, False),
    ):
        yield wrong_request(
            f"{short} against genkan.{option}",
            {**GOOD, short: value, "genkan": {option: other}},
            param=short,
            mentions=("contradict",),
        )
    yield wrong_request(
        "two short forms that differ",
        {**GOOD, "prompt_cache": True, "prefix_caching": False},
        param="prefix_caching",
        mentions=("contradict",),
    )


def _too_long() -> Iterator[Malformed]:
    def long(name: str, text: str, **options: Any) -> Malformed:
        body = {**GOOD, "messages": [{"role": "user", "content": text}], **options}
        return wrong_request(
            f"too long: {name}", body, param="messages", code="context_length_exceeded", mentions=(f"{WINDOW} tokens",)
        )

    def text(name: str, prompt: Any, given: int, **options: Any) -> Malformed:
        return wrong_request(
            f"text too long: {name}",
            {**GOOD_TEXT, "prompt": prompt, **options},
            path=TEXT,
            param="prompt",
            code="context_length_exceeded",
            mentions=(f"{WINDOW} tokens", f"{given} tokens"),
        )

    yield text("one token over the window", [5] * WINDOW, WINDOW + 1)
    yield text("the prompt alone one over", [5] * (WINDOW + 1), WINDOW + 2)
    yield text("streamed", [5] * WINDOW, WINDOW + 1, stream=True)
    yield text("the answer", [5], WINDOW + 1, max_tokens=WINDOW)
    yield text("an endless answer", [5], 2**31, max_tokens=2**31 - 1)
    yield text("half and half", [5] * 4000, 8193, max_tokens=4193)
    yield text("900000 ids", [5] * 900_000, 900_001)
    yield long("just over", "a " * (WINDOW - 20))
    yield long("the answer", "hi", max_tokens=WINDOW)
    yield long("an endless answer", "hi", max_completion_tokens=2**31 - 1, max_tokens=None)
    yield long("streamed", "a " * WINDOW, stream=True)
    yield long("1 MB of words", "hello world " * 87_000)
    yield long("3 MB of words", "hello world " * 260_000)
    yield long("3 MB of one letter", "a" * 3_000_000)
    yield long("3 MB of digits", "7" * 3_000_000)
    yield long("3 MB of blanks", " " * 3_000_000)
    yield long("3 MB of line breaks", "\n" * 1_500_000)
    yield long("2 MB of punctuation", "!?" * 1_000_000)
    yield long("1 MB without a blank", "abcdefghij" * 100_000)
    yield long("600,000 ideographs", "".join(chr(0x4E00 + index * 7919 % 20_000) for index in range(600_000)))
    yield long("300,000 emoji", "🦊" * 300_000)
    yield long("500,000 special tokens", "<|im_end|>" * 300_000)
    many = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}] * 30_000
    yield wrong_chat("too long: 60000 messages", messages=many, _code="context_length_exceeded")
    parts = [{"type": "text", "text": "x "}] * 80_000
    yield wrong_chat(
        "too long: 80000 parts",
        messages=[{"role": "user", "content": parts}],
        _code="context_length_exceeded",
    )


def _wrong_calls() -> Iterator[Malformed]:
    def call(name: str, body: Any, **expected: Any) -> Malformed:
        return wrong_request(f"call: {name}", body, path=CALL, **expected)

    messages = GOOD["messages"]
    wrong_type, missing = "invalid_type", "missing_required_parameter"
    yield call("empty object", {}, code=missing, param="messages")
    yield call("messages null", {"messages": None}, code=missing, param="messages")
    yield call("messages string", {"messages": "hi"}, code=wrong_type, param="messages")
    yield call("no messages", {"messages": []}, param="messages")
    yield call("message without role", {"messages": [{"content": "x"}]}, code=missing, param="messages[0].role")
    yield call("list", [GOOD], mentions=("must be a JSON object",))
    yield call("empty body", b"", mentions=("not valid JSON",))
    yield call("NaN", b'{"messages":[{"role":"user","content":"x"}],"temperature":NaN}')
    yield call("duplicate key", b'{"messages":[],"messages":[]}', mentions=("duplicate key",))
    yield call("deep", b'{"messages":' + b"[" * 1_000_000, mentions=("nested deeper",))
    yield call("unknown model", {"messages": messages, "model": "x"}, status=404, code="model_not_found", param="model")
    yield call("max_tokens 0", {"messages": messages, "max_tokens": 0}, param="max_tokens")
    yield call("stop 5", {"messages": messages, "stop": 5}, code=wrong_type, param="stop")
    yield call("stream 1", {"messages": messages, "stream": 1}, code=wrong_type, param="stream")
    yield call("genkan list", {"messages": messages, "genkan": []}, code=wrong_type, param="genkan")
    yield call("tools", {"messages": messages, "tools": [{}]}, code=missing, param="tools[0].type")
    yield call("unknown key", {"messages": messages, "msgs": 1}, code="unsupported_parameter", param="msgs")
    yield call(
        "too long",
        {"messages": messages, "max_tokens": WINDOW},
        code="context_length_exceeded",
        param="messages",
        mentions=(str(WINDOW),),
    )
    yield call(
        "too long, streamed",
        {"messages": messages, "max_tokens": WINDOW, "stream": True},
        code="context_length_exceeded",
        param="messages",
    )
