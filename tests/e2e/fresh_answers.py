"""Clients that never get a stored answer: for tests of what the engine says."""

import json

import httpx


class FreshAnswers(httpx.HTTPTransport):
    """Puts ``no-cache`` into every request for text, and sees to it that the gateway heard."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.method == "POST" else {}
        if "genkan" in body or not body.keys() & {"messages", "prompt"}:
            return super().handle_request(request)
        asked = {**body, "genkan": {"cache": "no-cache"}}
        headers = {name: value for name, value in request.headers.items() if name != "content-length"}
        response = super().handle_request(httpx.Request("POST", request.url, headers=headers, json=asked))
        assert response.headers.get("x-genkan-cache", "bypass") == "bypass"
        return response
