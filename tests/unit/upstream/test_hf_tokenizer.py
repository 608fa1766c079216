"""Tokenizers from a folder: each file, where it is missing, and where it is damaged."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizers import TEXTS, byte_level
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE, WordLevel

from genkan.errors import ModelFileError
from genkan.upstream.tokenizer import TextTokenizer

END, START, STOP = 0, 1, 2  # <|endoftext|>, <|im_start|>, <|im_end|>


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))


@pytest.fixture
def folder(tmp_path: Path, trained: Tokenizer) -> Path:
    trained.save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, "tokenizer_config.json", eos_token="<|endoftext|>")
    return tmp_path


def write(folder: Path, name: str, **values: Any) -> None:
    (folder / name).write_text(json.dumps(values))


def test_a_folder_gives_the_ids_of_its_tokenizer(folder: Path, trained: Tokenizer) -> None:
    ours = TextTokenizer.of_folder(folder)
    for text in TEXTS:
        ids = trained.encode(text).ids
        assert ours.encode(text) == ids
        assert ours.decode(ids) == trained.decode(ids)
    assert ours.vocab_size == trained.get_vocab_size()
    assert (ours.eos_id, set(ours.stop_ids), set(ours.special_ids)) == (END, {END, STOP}, {END, START, STOP})
    assert (ours.has_template, ours.template_source, ours.template_takes_tools) == (False, "", False)


def test_special_tokens_may_be_objects_and_stand_in_their_own_file(folder: Path) -> None:
    write(folder, "tokenizer_config.json", bos_token=None)
    write(folder, "special_tokens_map.json", eos_token={"content": "<|im_end|>", "lstrip": False})
    assert TextTokenizer.of_folder(folder).eos_id == STOP


@pytest.mark.parametrize(
    ("name", "values", "ends"),
    [
        ("generation_config.json", {"eos_token_id": [5, 7]}, {END, STOP, 5, 7}),
        ("generation_config.json", {"eos_token_id": 5}, {END, STOP, 5}),
        ("config.json", {"eos_token_id": 5}, {END, STOP, 5}),
        ("config.json", {"text_config": {"eos_token_id": [5]}}, {END, STOP, 5}),
    ],
)
def test_more_ids_may_end_an_answer(folder: Path, name: str, values: dict[str, Any], ends: set[int]) -> None:
    write(folder, name, **values)
    assert TextTokenizer.of_folder(folder).stop_ids == ends


def test_added_tokens_of_the_configuration_are_added(folder: Path, trained: Tokenizer) -> None:
    place = trained.get_vocab_size()
    added = {str(place): {"content": "<think>", "special": False}, "0": {"content": "<|endoftext|>", "special": True}}
    write(folder, "tokenizer_config.json", eos_token="<|endoftext|>", added_tokens_decoder=added)
    ours = TextTokenizer.of_folder(folder)
    assert ours.encode("<think>") == [place]
    assert ours.decode([place]) == "<think>"
    added[str(place)] = {"content": "<think>", "special": True}
    added[str(place + 5)] = added.pop(str(place))
    write(folder, "tokenizer_config.json", eos_token="<|endoftext|>", added_tokens_decoder=added)
    with pytest.raises(ModelFileError, match=r"tokenizer_config\.json gives '<think>'"):
        TextTokenizer.of_folder(folder)


def test_what_stands_around_a_text(folder: Path, trained: Tokenizer) -> None:
    assert TextTokenizer.of_folder(folder).encode("a") == trained.encode("a").ids
    config = {"eos_token": "<|endoftext|>", "bos_token": "<|im_start|>"}
    write(folder, "tokenizer_config.json", **config, add_bos_token=True, add_eos_token=True)
    assert TextTokenizer.of_folder(folder).encode("a") == [START, *trained.encode("a").ids, END]
    write(folder, "tokenizer_config.json", **config)
    wrapped = Tokenizer.from_str(trained.to_str())
    wrapped.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", START)]
    )
    wrapped.save(str(folder / "tokenizer.json"))
    assert TextTokenizer.of_folder(folder).encode("a") == [START, *trained.encode("a").ids]
    write(folder, "tokenizer_config.json", **config, add_bos_token=False)
    assert TextTokenizer.of_folder(folder).encode("a") == trained.encode("a").ids


def test_templates_by_name_and_in_files(folder: Path) -> None:
    config = {"eos_token": "<|endoftext|>"}
    hi = [{"role": "user", "content": "hi"}]
    write(folder, "tokenizer_config.json", **config, chat_template="{{ eos_token }}{{ messages[0].content }}")
    assert TextTokenizer.of_folder(folder).render_chat(hi) == "<|endoftext|>hi"
    named = [{"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"}]
    write(folder, "tokenizer_config.json", **config, chat_template=named)
    assert TextTokenizer.of_folder(folder).render_chat(hi, tools=[{}]) == "two"
    (folder / "chat_template.jinja").write_text("three")
    assert TextTokenizer.of_folder(folder).render_chat(hi) == "three"
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("four")
    assert TextTokenizer.of_folder(folder).render_chat(hi, tools=[{}]) == "four"


def test_a_tokenizer_that_cuts_texts_short_does_not(folder: Path, trained: Tokenizer) -> None:
    short = Tokenizer.from_str(trained.to_str())
    short.enable_truncation(2)
    short.enable_padding(length=9)
    short.save(str(folder / "tokenizer.json"))
    assert TextTokenizer.of_folder(folder).encode("one two three") == trained.encode("one two three").ids


def test_a_metaspace_decoder_drops_the_first_space(tmp_path: Path) -> None:
    spelt = Tokenizer(BPE({"▁a": 0, "b": 1, "</s>": 2}, []))
    spelt.decoder = decoders.Metaspace()
    spelt.save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, "tokenizer_config.json", eos_token="</s>")
    ours = TextTokenizer.of_folder(tmp_path)
    assert ours.decode([0, 1, 0, 2]) == spelt.decode([0, 1, 0]) == "ab a"
    assert ours.token_bytes() == [b" a", b"b", b""]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("tokenizer.json", None, "missing"),
        ("tokenizer.json", "{}", "is damaged: Exception: Model missing"),
        ("tokenizer.json", "\udcff", "cannot be read"),
        ("tokenizer_config.json", "{", "not JSON"),
        ("tokenizer_config.json", "[]", "does not hold an object"),
        ("tokenizer_config.json", "{}", "no end-of-sequence"),
        ("generation_config.json", "nope", "not JSON"),
        ("special_tokens_map.json", "3", "does not hold an object"),
        ("config.json", "", "not JSON"),
        ("tokenizer_config.json", "[" * 5000, "not JSON"),
    ],
)
def test_a_missing_or_damaged_file_is_named(folder: Path, name: str, text: str | None, said: str) -> None:
    (folder / name).unlink(missing_ok=True)
    if text is not None:
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    special = "<|im_end|>"  # ends answers even where no file names an end, so it has to go
    tokenizer = folder / "tokenizer.json"
    if said == "no end-of-sequence":
        tokenizer.write_text(tokenizer.read_text().replace(special, "<|im_xxx|>").replace("<|endoftext|>", "<|other|>"))
    with pytest.raises(ModelFileError, match=rf"{name.replace('.', '[.]')} .*{said}"):
        TextTokenizer.of_folder(folder)


def test_an_unknown_decoder_is_refused(tmp_path: Path) -> None:
    words = Tokenizer(WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    words.decoder = decoders.WordPiece()
    words.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelFileError, match=r"tokenizer\.json has the decoder \['WordPiece'\]; known: 'ByteLevel'"):
        TextTokenizer.of_folder(tmp_path)


def test_tokens_that_the_model_has_no_rows_for_are_ordinary_text(folder: Path, trained: Tokenizer) -> None:
    """As in Gemma 3's models of text alone, whose tokenizers have a token for images beyond their embeddings."""
    rows = trained.get_vocab_size()
    image = "<image_soft_token>"
    state = json.loads((folder / "tokenizer.json").read_text())
    added = {**state["added_tokens"][-1], "id": rows, "content": image, "special": True}
    (folder / "tokenizer.json").write_text(json.dumps(state | {"added_tokens": [*state["added_tokens"], added]}))
    write(folder, "tokenizer_config.json", eos_token="<|endoftext|>", added_tokens_decoder={str(rows): added})
    assert TextTokenizer.of_folder(folder).encode(image) == [rows]
    write(folder, "config.json", vocab_size=rows)
    ours = TextTokenizer.of_folder(folder)
    assert ours.vocab_size == rows
    assert ours.encode(image) == trained.encode(image).ids
    assert ours.token_id(image) is None


@pytest.mark.parametrize(("values", "rows"), [({"vocab_size": 100}, 100), ({"text_config": {"vocab_size": 99}}, 99)])
def test_a_vocabulary_that_the_model_has_no_rows_for_is_refused(
    folder: Path, values: dict[str, Any], rows: int
) -> None:
    write(folder, "config.json", **values)
    with pytest.raises(ModelFileError, match=rf"tokenizer\.json has a token with the id \d+, .* are below {rows}"):
        TextTokenizer.of_folder(folder)


def test_an_id_of_billions_takes_no_memory(folder: Path) -> None:
    state = json.loads((folder / "tokenizer.json").read_text())
    state["model"]["vocab"]["far"] = (1 << 32) - 1
    (folder / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(ModelFileError, match="a token with the id 4294967295"):
        TextTokenizer.of_folder(folder)


def test_where_the_library_panics_it_is_the_files_fault(folder: Path) -> None:
    state = json.loads((folder / "tokenizer.json").read_text())
    state["model"]["continuing_subword_prefix"] = "########"
    (folder / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(ModelFileError, match=r"tokenizer\.json is damaged: PanicException"):
        TextTokenizer.of_folder(folder)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("tokenizer_config.json", {"added_tokens_decoder": [1]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"a": {"content": "b"}}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"0": {}}}),
        ("tokenizer_config.json", {"chat_template": [1]}),
        ("tokenizer_config.json", {"bos_token": "\ud800"}),
    ],
)
def test_values_of_other_kinds_are_damage(folder: Path, name: str, values: dict[str, Any]) -> None:
    write(folder, name, **{"eos_token": "<|endoftext|>", **values})
    with pytest.raises(ModelFileError, match="damaged"):
        TextTokenizer.of_folder(folder)


@pytest.mark.parametrize("eos_id", [-1, 1 << 40, True, "x", 1.0])
def test_an_end_that_is_no_id_ends_nothing(folder: Path, eos_id: object) -> None:
    write(folder, "generation_config.json", eos_token_id=[eos_id, 5])
    assert TextTokenizer.of_folder(folder).stop_ids == {END, STOP, 5}


def test_only_files_are_read(folder: Path) -> None:
    (folder / "chat_template.jinja").symlink_to("/dev/zero")
    with pytest.raises(ModelFileError, match=r"chat_template\.jinja is no file"):
        TextTokenizer.of_folder(folder)
