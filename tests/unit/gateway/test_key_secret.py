"""The secret: from the environment, else from a file that is made once."""

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from genkan.config import Config
from genkan.errors import ConfigError
from genkan.gateway.key_secret import load_secret

SECRET = "correct horse battery staple, and more"


def config(folder: Path, **redis: Any) -> Config:
    return Config.model_validate(
        {
            "upstreams": [{"name": "e", "kind": "engine"}],
            "models": [{"name": "m", "upstream": "e"}],
            "redis": {"data_dir": str(folder / "data"), **redis},
        }
    )


def test_the_environment_goes_first_and_no_file_is_made(tmp_path: Path) -> None:
    assert load_secret({"GENKAN_KEY_SECRET": SECRET}, config(tmp_path)) == SECRET.encode()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["", "short", "x" * 31])
def test_a_short_secret_is_refused_and_not_shown(tmp_path: Path, given: str) -> None:
    with pytest.raises(ConfigError, match="GENKAN_KEY_SECRET must have at least 32 characters") as caught:
        load_secret({"GENKAN_KEY_SECRET": given}, config(tmp_path))
    assert caught.value.path == "keys.secret_env"
    assert not given or given not in str(caught.value)


def test_without_the_variable_a_file_is_made_for_our_eyes_only_and_read_again(tmp_path: Path) -> None:
    first = load_secret({}, config(tmp_path))
    assert len(first) >= 32
    assert load_secret({}, config(tmp_path)) == first
    made = list((tmp_path / "data").iterdir())
    assert [path.name for path in made] == ["keys.secret"]
    assert stat.S_IMODE(made[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(made[0].parent.stat().st_mode) == 0o700


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from genkan.gateway.key_secret import _from_file;"
        "sys.stdin.read(1); print(_from_file(Path(sys.argv[1])).decode())"
    )
    line = [sys.executable, "-c", code, str(tmp_path / "data" / "keys.secret")]
    started = [subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"g")
        process.stdin.flush()
    found = {process.communicate(timeout=30)[0] for process in started}
    assert len(found) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["keys.secret"]


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    load_secret({}, config(tmp_path))
    (tmp_path / "data" / "keys.secret").write_text("abc")
    with pytest.raises(ConfigError, match=r"keys\.secret must have at least 32"):
        load_secret({}, config(tmp_path))


def test_a_folder_that_cannot_be_written_to_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(ConfigError) as caught:
        load_secret({}, config(tmp_path))
    assert caught.value.path == "redis.data_dir"


def test_in_memory_the_secret_ends_with_the_process(tmp_path: Path) -> None:
    first, second = (load_secret({}, config(tmp_path, url="memory")) for _ in range(2))
    assert first != second
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("url", "warns"), [("redis://10.0.0.1", True), ("embedded", False)])
def test_replicas_elsewhere_are_warned_of(
    tmp_path: Path, url: str, warns: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("genkan"), "propagate", True)
    secret = load_secret({}, config(tmp_path, url=url))
    assert ("replicas on others need the same one in GENKAN_KEY_SECRET" in caplog.text) == warns
    assert secret.decode() not in caplog.text
    assert os.listdir(tmp_path / "data") == ["keys.secret"]
