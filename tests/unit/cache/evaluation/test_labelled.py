"""Files of labelled pairs."""

from pathlib import Path

import pytest

from genkan.cache.evaluation.labelled import LabelledPair, read_pairs


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_csv_by_its_columns_in_any_order(tmp_path: Path) -> None:
    content = '\ufeffid,same,text_b,text_a\r\n1,1,"b, with a comma\nand a line",a\r\n\r\n2,0,d,c\r\n3,True,f,e\r\n'
    assert read_pairs(written(tmp_path, "pairs.CSV", content)) == [
        LabelledPair("a", "b, with a comma\nand a line", True),
        LabelledPair("c", "d", False),
        LabelledPair("e", "f", True),
    ]


def test_json_lines_by_either_name_of_the_label(tmp_path: Path) -> None:
    content = '{"a": "x", "b": "y", "same": true}\n\n{"a": "비밀번호", "b": "đổi", "same_answer": 0, "kind": "z"}\n'
    assert read_pairs(written(tmp_path, "pairs.jsonl", content)) == [
        LabelledPair("x", "y", True),
        LabelledPair("비밀번호", "đổi", False),
    ]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("p.csv", "a,b,same\nx,y,1\n", "line 1: no column text_a"),
        ("p.csv", "text_a,text_b,same\nx,y,1\nx,y,maybe\n", "line 3: whether they are the same"),
        ("p.csv", "text_a,text_b,same\nx,y\n", "line 2: whether they are the same"),
        ("p.csv", "text_a,text_b,same\nx, ,1\n", "line 2: no second text"),
        ("p.csv", 'text_a,text_b,same\nx,"y" z,1\n', "line 2"),
        ("p.csv", "text_a,text_b,same\n", "has no pairs"),
        ("p.csv", "", "line 1: no column text_a"),
        ("p.jsonl", "", "has no pairs"),
        ("p.jsonl", '{"a": "x", "b": "y", "same": 1}\n{"a": "x"', "line 2: not JSON"),
        ("p.jsonl", "[" * 100_000 + "\n", "line 1: not JSON"),
        ("p.jsonl", '["x", "y", true]\n', "line 1: not a JSON object"),
        ("p.jsonl", '{"a": "x", "b": 5, "same": true}\n', "line 1: no second text"),
        ("p.jsonl", '{"b": "x", "same": true}\n', "line 1: no first text"),
        ("p.jsonl", '{"a": "x", "b": "y"}\n', "line 1: whether they are the same"),
        ("p.jsonl", '{"a": "x", "b": "y", "same": "1"}\n', "line 1: whether they are the same"),
        ("p.jsonl", '{"a": "x", "b": "y", "same": []}\n', "line 1: whether they are the same"),
        ("p.jsonl", b'{"a": "\xff", "b": "y", "same": 1}\n', "not UTF-8"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, name: str, content: str | bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        read_pairs(written(tmp_path, name, content))
    assert str(tmp_path / name) in str(caught.value)
