"""A page of which some parts are made, between markers, and the rest is written by people."""

import re

_PART = r"(<!-- begin: {name} -->\n).*?(<!-- end: {name} -->)"


def names(text: str) -> list[str]:
    """The parts that ``text`` has places for, in order."""
    return re.findall(r"<!-- begin: ([a-z-]+) -->", text)


def filled(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` in the place of that name, whatever stood there. Raises KeyError without a place."""
    pattern = re.compile(_PART.format(name=re.escape(name)), re.DOTALL)
    result, places = pattern.subn(lambda found: f"{found[1]}{content.strip()}\n{found[2]}", text)
    if places != 1:
        raise KeyError(name)
    return result
