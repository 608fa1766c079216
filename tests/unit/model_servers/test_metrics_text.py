"""Several servers' metrics as one text, read with Prometheus' own parser."""

from prometheus_client.parser import text_string_to_metric_families

from genkan.model_servers import metrics_text
from genkan.model_servers.metrics_text import merged

VLLM = """\
# HELP python_info Python platform information
# TYPE python_info gauge
python_info{version="3.12"} 1.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
# HELP vllm:time_to_first_token_seconds Histogram of time to first token.
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{le="0.1",model_name="a } b"} 1.0
vllm:time_to_first_token_seconds_bucket{le="+Inf",model_name="a } b"} 2.0
vllm:time_to_first_token_seconds_count{model_name="a } b"} 2.0
vllm:time_to_first_token_seconds_sum{model_name="a } b"} 0.5
# HELP vllm:request_success_total Count.
# TYPE vllm:request_success_total counter
vllm:request_success_total 7.0
vllm:request_success_created 1.7e9
http_requests_total{handler="/x"} 5
"""


def parsed(text: str) -> dict[str, list[tuple[str, dict[str, str], float]]]:
    families = list(text_string_to_metric_families(text))
    return {f.name: [(s.name, s.labels, s.value) for s in f.samples] for f in families}


def test_each_sample_says_whose_it_is_and_each_family_stands_once() -> None:
    found = parsed(merged({"v-0": VLLM, "v-1": VLLM.replace(" 3.0", " 4.0")}))
    assert found["vllm:num_requests_running"] == [
        ("vllm:num_requests_running", {"upstream": "v-0", "engine": "0", "model_name": "m"}, 3.0),
        ("vllm:num_requests_running", {"upstream": "v-1", "engine": "0", "model_name": "m"}, 4.0),
    ]
    assert [labels["upstream"] for _, labels, _ in found["vllm:time_to_first_token_seconds"]] == ["v-0"] * 4 + [
        "v-1"
    ] * 4
    assert ("vllm:request_success_total", {"upstream": "v-1"}, 7.0) in found["vllm:request_success"]
    assert found["vllm:time_to_first_token_seconds"][0][1]["model_name"] == "a } b"


def test_what_is_not_the_servers_own_is_left_out() -> None:
    text = merged({"v": VLLM})
    assert not {"python_info", "http_requests"} & set(parsed(text))
    assert "http_requests" not in text


def test_what_is_none_of_the_format_is_left_out() -> None:
    garbage = "# TYPE vllm:x gauge\nvllm:x{ 1\nvllm:x\n# TYPE\n\x00\nvllm:x{} 2\nsglang:y 1\n<html>\n"
    assert merged({"v": garbage}) == '# TYPE vllm:x gauge\nvllm:x{upstream="v"} 2\n'


def test_a_server_that_says_nothing_adds_nothing() -> None:
    assert merged({}) == merged({"v": ""}) == ""


def test_lines_beyond_the_bound_are_left_out() -> None:
    text = "# TYPE vllm:x gauge\n" + "vllm:x 1\n" * (metrics_text.MAX_LINES + 10)
    assert len(merged({"v": text}).splitlines()) == metrics_text.MAX_LINES
