"""A tokenizer from a GGUF file's key-values, which hold the vocabulary but not the code that goes with it.

Two kinds are known. ``gpt2`` is byte-level BPE with the file's merges; the pre-tokenizer is only named. ``llama`` is
SentencePiece BPE with byte fallback: its merges follow from the scores, as transformers derives them. Where
SentencePiece puts a space before a text, it stands after every special token too, as in llama.cpp and in the
``tokenizer.json`` of Llama 2 (transformers calls that legacy).

Sources: the GGUF specification; transformers' ``convert_slow_tokenizer.py`` and ``gguf_tokenizer_mapping.py``;
llama.cpp's ``llama-vocab.cpp`` for what a file leaves out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Never

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers
from tokenizers.models import BPE

from genkan.errors import ModelFileError
from genkan.upstream.pretokenizers import WORDS, Words
from genkan.upstream.vocabulary import (
    Vocabulary,
    byte_level_bytes,
    damage_named,
    end_ids,
    repeated,
    sentencepiece_bytes,
)

_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 2, 3, 4, 5, 6  # `tokenizer.ggml.token_type`; 1 is an ordinary one
_KINDS = ("gpt2", "llama")
_ENDS = ("eos", "eot", "eom")
_NAMED = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
_LLAMA_IDS = {"bos": 1, "eos": 2, "unknown": 0}  # where the file of a `llama` vocabulary names none


@dataclass(frozen=True, slots=True)
class _Listed:
    """The vocabulary as the file lists it. ``kinds`` are its token types, all ordinary where the file has none."""

    metadata: Mapping[str, Any]
    kind: str
    tokens: list[str]
    kinds: Sequence[int]

    def setting(self, name: str, default: Any = None) -> Any:
        return self.metadata.get(f"tokenizer.ggml.{name}", default)

    def of_kind(self, *kinds: int) -> list[int]:
        return [token_id for token_id, kind in enumerate(self.kinds) if kind in kinds]

    def token_id(self, name: str) -> int | None:
        """The id that the file gives to one of its special tokens. Raises ModelFileError where it has no such id."""
        default = _LLAMA_IDS.get(name) if self.kind == "llama" else None
        token_id: int | None = self.setting(f"{name}_token_id", default)
        if token_id is not None and not 0 <= token_id < len(self.tokens):
            raise ModelFileError(f"the model's tokenizer has {len(self.tokens)} tokens, but {name} is {token_id}")
        return token_id


def vocabulary_of(metadata: Mapping[str, Any]) -> Vocabulary:
    """The tokenizer of the file that has this ``metadata`` (a GGUF file's key-values).

    Raises ModelFileError for a kind or a pre-tokenizer that is not known, and for a vocabulary that is damaged. Cost:
    0.15 s for 49 k byte-level tokens, about 2 s for 262 k of SentencePiece's.
    """
    with damage_named("the model's tokenizer"):
        return _vocabulary(metadata)


def _vocabulary(metadata: Mapping[str, Any]) -> Vocabulary:
    listed = _listed(metadata)
    special = frozenset(listed.of_kind(_CONTROL, _UNKNOWN, _UNUSED))
    words = _words(listed) if listed.kind == "gpt2" else None
    tokenizer = _sentencepiece(listed) if words is None else _byte_level(listed, words)
    eos_id = listed.token_id("eos")
    if eos_id is None:
        raise ModelFileError("the model's tokenizer names no end-of-sequence token")
    prefixed = words is None and bool(listed.setting("add_space_prefix", True))
    return Vocabulary(
        tokenizer,
        _texts(listed, special),
        special,
        _stop_ids(listed, special),
        eos_id,
        before=_around(listed, "bos", default=words is None or words.has_bos),
        after=_around(listed, "eos", default=False),
        drops_first_space=prefixed,
        named_tokens=_named_tokens(listed),
        templates=_templates(metadata),
    )


def _listed(metadata: Mapping[str, Any]) -> _Listed:
    kind, tokens = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.tokens")
    if kind not in _KINDS:
        _refuse(metadata)
    if not tokens:
        raise ModelFileError("the model file has no vocabulary (tokenizer.ggml.tokens)")
    kinds = metadata.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    if len(kinds) != len(tokens):
        raise ModelFileError(f"the model's tokenizer has {len(tokens)} tokens and {len(kinds)} token types")
    if (twice := repeated(tokens)) is not None:
        raise ModelFileError(f"the model's tokenizer has the token {twice!r} twice")
    return _with_named_special(_Listed(metadata, kind, tokens, kinds))


def _with_named_special(listed: _Listed) -> _Listed:
    """With the tokens that begin and end texts marked as special, which some files forget."""
    named = {listed.token_id(name) for name in ("bos", *_ENDS)}
    kinds = [_CONTROL if place in named else kind for place, kind in enumerate(listed.kinds)]
    return replace(listed, kinds=kinds)


def _words(listed: _Listed) -> Words:
    words = WORDS.get(listed.setting("pre"))
    return words or _refuse(listed.metadata)


def _refuse(metadata: Mapping[str, Any]) -> Never:
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    raise ModelFileError(
        f"the model's tokenizer is {kind!r} with pre-tokenizer {pre!r}; "
        f"known: 'llama', and 'gpt2' with {', '.join(map(repr, WORDS))}"
    )


def _byte_level(listed: _Listed, words: Words) -> Tokenizer:
    merges = _listed_merges(listed)
    if merges is None:
        raise ModelFileError("the model file has no merges (tokenizer.ggml.merges)")
    tokenizer = _bpe(listed.tokens, merges, ignore_merges=words.takes_whole)
    if words.nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = words.build()
    tokenizer.decoder = decoders.ByteLevel()
    _add_tokens(tokenizer, listed)
    return tokenizer


def _sentencepiece(listed: _Listed) -> Tokenizer:
    gemma = str(listed.metadata.get("general.architecture", "")).startswith("gemma")
    if gemma:
        listed = _gemma_spelling(listed)
    unknown = listed.token_id("unknown")
    merges = _listed_merges(listed) or _merges(listed, None if gemma else listed.setting("scores"))
    tokenizer = _bpe(
        listed.tokens,
        merges,
        fuse_unk=True,
        byte_fallback=True,
        unk_token=None if unknown is None else listed.tokens[unknown],
    )
    tokenizer.normalizer = _normalizer(listed)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    _add_tokens(tokenizer, listed)
    return tokenizer


def _bpe(tokens: Sequence[str], merges: list[tuple[str, str]], **options: Any) -> Tokenizer:
    return Tokenizer(BPE(vocab={token: place for place, token in enumerate(tokens)}, merges=merges, **options))


def _normalizer(listed: _Listed) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if listed.setting("remove_extra_whitespaces", False):
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    if listed.setting("add_space_prefix", True):
        steps.append(normalizers.Prepend("▁"))
    steps.append(normalizers.Replace(" ", "▁"))
    return normalizers.Sequence(steps)


def _gemma_spelling(listed: _Listed) -> _Listed:
    """With runs of spaces spelt as SentencePiece has them: they come out of merges, and are no tokens of their own."""
    runs = {
        place: "▁" * len(token) for place, token in enumerate(listed.tokens) if " " in token and not token.strip(" ")
    }
    tokens = [runs.get(place, token) for place, token in enumerate(listed.tokens)]
    if (twice := repeated(tokens)) is not None:
        raise ModelFileError(f"the model's tokenizer has the token {twice!r} twice")
    kinds = [1 if place in runs else kind for place, kind in enumerate(listed.kinds)]
    return replace(listed, tokens=tokens, kinds=kinds)


def _listed_merges(listed: _Listed) -> list[tuple[str, str]] | None:
    merges = listed.setting("merges")
    if merges is None:
        return None
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    if any(len(pair) != 2 for pair in pairs):
        raise ModelFileError("the model's tokenizer has a merge that is not two tokens")
    return pairs


def _merges(listed: _Listed, scores: Sequence[float] | None) -> list[tuple[str, str]]:
    """Every way of putting a token together from two others, the best token first.

    The best is the one of the highest score, or the first of the vocabulary where ``scores`` is None: Gemma's scores
    do not follow the order in which it merges.
    """
    known = set(listed.tokens)
    merges = [
        (left, right)
        for token, kind in zip(listed.tokens, listed.kinds, strict=True)
        if kind != _BYTE  # a byte token is never made from a text that spells it
        for cut in range(len(token) - 1, 0, -1)
        if (left := token[:cut]) in known and (right := token[cut:]) in known
    ]
    if scores is None:
        return merges
    if len(scores) != len(listed.tokens):
        raise ModelFileError(f"the model's tokenizer has {len(listed.tokens)} tokens and {len(scores)} scores")
    score_of = dict(zip(listed.tokens, scores, strict=True))
    return sorted(merges, key=lambda pair: (score_of[pair[0] + pair[1]], len(pair[0]), len(pair[1])), reverse=True)


def _add_tokens(tokenizer: Tokenizer, listed: _Listed) -> None:
    """Have the tokens found in a text whole. Special ones come first: their ids stay what they are."""
    special = listed.of_kind(_CONTROL, _UNKNOWN)
    tokenizer.add_special_tokens([AddedToken(listed.tokens[i], special=True, normalized=False) for i in special])
    tokenizer.add_tokens([AddedToken(listed.tokens[i], normalized=False) for i in listed.of_kind(_USER_DEFINED)])


def _texts(listed: _Listed, special: frozenset[int]) -> list[bytes]:
    bytes_of = byte_level_bytes if listed.kind == "gpt2" else sentencepiece_bytes
    whole = special | set(listed.of_kind(_USER_DEFINED))
    return [token.encode() if place in whole else bytes_of(token) for place, token in enumerate(listed.tokens)]


def _stop_ids(listed: _Listed, special: frozenset[int]) -> frozenset[int]:
    named = {listed.token_id(name) for name in _ENDS}
    ids = {listed.tokens[place]: place for place in special}
    return frozenset(token_id for token_id in named if token_id is not None) | end_ids(ids, special)


def _around(listed: _Listed, name: str, *, default: bool) -> tuple[int, ...]:
    token_id = listed.token_id(name)
    wanted = listed.setting(f"add_{name}_token", default)
    return (token_id,) if wanted and token_id is not None else ()


def _named_tokens(listed: _Listed) -> dict[str, str]:
    ids = {spelt: listed.token_id(name) for spelt, name in _NAMED.items()}
    return {spelt: listed.tokens[token_id] for spelt, token_id in ids.items() if token_id is not None}


def _templates(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The file's chat templates: one without a name, and more under ``tokenizer.chat_template.<name>``."""
    key = "tokenizer.chat_template"
    named = {name.removeprefix(f"{key}."): text for name, text in metadata.items() if name.startswith(f"{key}.")}
    return named | ({"default": metadata[key]} if metadata.get(key) else {})
