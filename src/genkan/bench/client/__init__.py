"""The client of ``genkan bench``: load on any server that speaks OpenAI's API, and what came of it."""
