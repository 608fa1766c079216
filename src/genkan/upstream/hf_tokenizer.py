"""A tokenizer from a model's folder, as it lies on the Hugging Face Hub.

``tokenizer.json`` is the tokenizer itself; it must be there. The files beside it say what is special and how to chat:
``tokenizer_config.json``, ``special_tokens_map.json``, ``generation_config.json``, ``config.json`` and
``chat_template.jinja``, each of which may be missing. Where two speak of one thing, the one that transformers believes
counts.
"""

import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from genkan.errors import ModelFileError
from genkan.upstream.vocabulary import Vocabulary, byte_level_bytes, damage_named, end_ids, sentencepiece_bytes

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_STEPS_OF_SENTENCEPIECE = ("Replace", "ByteFallback", "Fuse", "Strip", "Metaspace")
_PROBE = "a"
_MAX_BYTES = 1 << 28  # of a file; the largest that is known has 35 MB
_MAX_IDS = 1 << 22  # tokens are kept by id, and a damaged file may give one any id


def vocabulary_of(folder: Path) -> Vocabulary:
    """The tokenizer in ``folder``. Raises ModelFileError, which names the file that is missing or damaged.

    Added tokens for which the model has no row, as Gemma 3's for images in models of text alone, are left out: their
    spelling is ordinary text. Cost: the library's own, 0.1 s for 49 k tokens and 1 s for 262 k.
    """
    with damage_named(f"the tokenizer in {folder}"):
        return _vocabulary(_Files(folder))


def _vocabulary(files: "_Files") -> Vocabulary:
    rows = files.rows()
    tokenizer = files.tokenizer(rows)
    config = files.object("special_tokens_map.json") | files.object("tokenizer_config.json")
    _add_tokens(tokenizer, config, rows, files.path("tokenizer_config.json"))
    named = {name: text for name in _NAMED if (text := _spelling(config.get(name))) is not None}
    _make_special(tokenizer, named)
    decoder = _Decoder.of(tokenizer, files.path("tokenizer.json"))
    special = _special_ids(tokenizer)
    stop_ids = _stop_ids(files, tokenizer, named, special)
    before, after = _around(tokenizer, config, named)
    return Vocabulary(
        tokenizer,
        decoder.texts(tokenizer, special),
        special,
        stop_ids,
        _eos_id(tokenizer, named, stop_ids, files.path("tokenizer_config.json")),
        before,
        after,
        decoder.drops_first_space,
        named,
        files.templates(config),
    )


@dataclass(frozen=True, slots=True)
class _Files:
    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def rows(self) -> int:
        """How many ids the model has, or the most that can be read where ``config.json`` does not say."""
        config = self.object("config.json")
        text_config = config.get("text_config")
        for said in (config, text_config if isinstance(text_config, dict) else {}):
            if type(rows := said.get("vocab_size")) is int and rows > 0:
                return min(rows, _MAX_IDS)
        return _MAX_IDS

    def tokenizer(self, rows: int) -> Tokenizer:
        path = self.path("tokenizer.json")
        text = self._text(path)
        if text is None:
            raise ModelFileError(f"{path} is missing")
        with damage_named(str(path)):
            tokenizer = Tokenizer.from_str(text)
            if max(tokenizer.get_added_tokens_decoder(), default=0) >= rows:
                tokenizer = Tokenizer.from_str(_without_added(text, rows))
        largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        if largest >= rows:
            raise ModelFileError(f"{path} has a token with the id {largest}, and the model's ids are below {rows}")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def object(self, name: str) -> dict[str, Any]:
        """The JSON object in a file, empty where there is no such file."""
        text = self._text(self.path(name))
        if text is None:
            return {}
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelFileError(f"{self.path(name)} is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise ModelFileError(f"{self.path(name)} does not hold an object")
        return found

    def templates(self, config: Mapping[str, Any]) -> dict[str, str]:
        """The chat templates by name. A ``.jinja`` file counts before the configuration."""
        listed = config.get("chat_template")
        found = {"default": listed} if isinstance(listed, str) and listed else {}
        if isinstance(listed, list):
            found = {str(each["name"]): str(each["template"]) for each in listed if {"name", "template"} <= set(each)}
        if (text := self._text(self.path("chat_template.jinja"))) is not None:
            found["default"] = text
        for path in sorted(self.path("additional_chat_templates").glob("*.jinja")):
            found[path.stem] = self._text(path) or ""
        return found

    def _text(self, path: Path) -> str | None:
        try:
            if not stat.S_ISREG((said := path.stat()).st_mode) or said.st_size > _MAX_BYTES:
                raise ModelFileError(f"{path} is no file, or larger than any such file")
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFileError(f"{path} cannot be read: {error}") from error


@dataclass(slots=True)
class _Decoder:
    """How the tokens of ``tokenizer.json`` become text, as far as it is known here."""

    byte_level: bool = False
    byte_fallback: bool = False
    drops_first_space: bool = False
    steps: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, tokenizer: Tokenizer, path: Path) -> "_Decoder":
        state = json.loads(tokenizer.decoder.__getstate__()) if tokenizer.decoder else {"type": None}
        found = cls()
        for step in _steps(state):
            if not found._take(step):
                raise ModelFileError(
                    f"{path} has the decoder {found.steps!r}; known: 'ByteLevel', and SentencePiece's: "
                    f"{', '.join(map(repr, _STEPS_OF_SENTENCEPIECE))}"
                )
        return found

    def texts(self, tokenizer: Tokenizer, special: frozenset[int]) -> list[bytes]:
        """What each id stands for."""
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        added = tokenizer.get_added_tokens_decoder()
        bytes_of = byte_level_bytes if self.byte_level else partial(sentencepiece_bytes, with_bytes=self.byte_fallback)
        texts = [b""] * (1 + max(vocabulary.values(), default=-1))
        for token, token_id in vocabulary.items():
            whole = token_id in special or (self.byte_level and token_id in added)
            texts[token_id] = token.encode() if whole else bytes_of(token)
        return texts

    def _take(self, step: Mapping[str, Any]) -> bool:
        kind = step["type"]
        self.steps.append(kind)
        match kind:
            case "ByteLevel":
                self.byte_level = True
            case "Replace":
                return step.get("pattern") == {"String": "▁"} and step.get("content") == " "
            case "ByteFallback":
                self.byte_fallback = True
            case "Strip":
                self.drops_first_space = True
                return "Fuse" in self.steps and (step["content"], step["start"], step["stop"]) == (" ", 1, 0)
            case "Metaspace":
                self.drops_first_space = step.get("prepend_scheme", "always") != "never"
                return step.get("replacement") == "▁"
            case _:
                return bool(kind == "Fuse")
        return self.steps.count("ByteLevel") in (0, len(self.steps))


def _steps(decoder: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if decoder["type"] != "Sequence":
        yield decoder
        return
    for each in decoder["decoders"]:
        yield from _steps(each)


def _without_added(text: str, rows: int) -> str:
    """``tokenizer.json`` without its added tokens whose ids are not below ``rows``."""
    state = json.loads(text)
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < rows]
    return json.dumps(state)


def _add_tokens(tokenizer: Tokenizer, config: Mapping[str, Any], rows: int, path: Path) -> None:
    """Add the configuration's own tokens; most are in ``tokenizer.json`` already."""
    known = tokenizer.get_added_tokens_decoder()
    with damage_named(f"{path} (added_tokens_decoder)"):
        listed = sorted((int(key), token) for key, token in (config.get("added_tokens_decoder") or {}).items())
        added = [(token_id, token, token["content"]) for token_id, token in listed if token_id < rows]
    for token_id, token, content in added:
        if token_id in known and known[token_id].content == content:
            continue
        flags = {name: bool(token.get(name)) for name in ("single_word", "lstrip", "rstrip", "normalized", "special")}
        tokenizer.add_tokens([AddedToken(content, **flags)])
        if tokenizer.token_to_id(content) != token_id:
            raise ModelFileError(f"{path} gives {content!r} the id {token_id}, which it does not have")


def _make_special(tokenizer: Tokenizer, named: Mapping[str, str]) -> None:
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    missing = [
        text
        for text in dict.fromkeys(named.values())
        if text not in special and tokenizer.token_to_id(text) is not None
    ]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in missing])


def _special_ids(tokenizer: Tokenizer) -> frozenset[int]:
    return frozenset(token_id for token_id, token in tokenizer.get_added_tokens_decoder().items() if token.special)


def _spelling(token: Any) -> str | None:
    """A token of a configuration: its spelling, or an object that holds it."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) and token else None


def _stop_ids(files: _Files, tokenizer: Tokenizer, named: Mapping[str, str], special: frozenset[int]) -> frozenset[int]:
    model = files.object("config.json")
    own = files.object("generation_config.json").get("eos_token_id")
    own = model.get("eos_token_id") if own is None else own  # which may be 0
    if own is None and isinstance(text_config := model.get("text_config"), dict):
        own = text_config.get("eos_token_id")
    eos_id = tokenizer.token_to_id(named.get("eos_token", ""))
    listed = own if isinstance(own, list) else [own]
    known = set(tokenizer.get_vocab(with_added_tokens=True).values())
    ids = {token_id for token_id in (*listed, eos_id) if type(token_id) is int and token_id in known}
    spelt = {token.content: token_id for token_id, token in tokenizer.get_added_tokens_decoder().items()}
    return frozenset(ids) | end_ids(spelt, special)


def _eos_id(tokenizer: Tokenizer, named: Mapping[str, str], stop_ids: frozenset[int], path: Path) -> int:
    eos_id = tokenizer.token_to_id(named.get("eos_token", ""))
    if eos_id is None and not stop_ids:
        raise ModelFileError(f"{path} names no end-of-sequence token, and no other file does")
    return int(min(stop_ids) if eos_id is None else eos_id)


def _around(
    tokenizer: Tokenizer, config: Mapping[str, Any], named: Mapping[str, str]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids before and after a text: what ``tokenizer.json`` puts there, unless the configuration says it."""
    if "add_bos_token" in config or "add_eos_token" in config:
        return _wanted(tokenizer, config, named, "bos"), _wanted(tokenizer, config, named, "eos")
    bare = tokenizer.encode(_PROBE, add_special_tokens=False).ids
    full = tokenizer.encode(_PROBE, add_special_tokens=True).ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return tuple(full[:start]), tuple(full[start + len(bare) :])
    return (), ()


def _wanted(tokenizer: Tokenizer, config: Mapping[str, Any], named: Mapping[str, str], name: str) -> tuple[int, ...]:
    token_id = tokenizer.token_to_id(named.get(f"{name}_token", ""))
    return (token_id,) if config.get(f"add_{name}_token") and token_id is not None else ()
