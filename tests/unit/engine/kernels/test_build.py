"""The compiled kernels' file: when it is made, under which name, and what happens where it cannot be."""

import ctypes
import logging
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genkan.engine.kernels import build
from genkan.errors import ConfigError

SOURCE = "int answer(void) { return 42; }\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENKAN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources that compile in no time, for any processor."""
    monkeypatch.setattr(build, "_NEEDED", frozenset())
    directory = tmp_path / "sources"
    directory.mkdir()
    (directory / "answer.c").write_text(SOURCE)
    monkeypatch.setattr(build, "_SOURCES", directory)
    return directory


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> str:
    """The C compiler of this machine, which becomes ``$CC``."""
    path = shutil.which("cc")
    if path is None:
        pytest.skip("there is no C compiler here (cc)")
    monkeypatch.setenv("CC", path)
    return path


def script(path: Path, text: str) -> Path:
    """A program that takes a compiler's place."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def counting(path: Path, compiler: str, log: Path) -> Path:
    """A compiler that notes down each run, but not who asks for its version."""
    return script(path, f'[ "$1" = --version ] || echo run >> "{log}"\nexec "{compiler}" "$@"')


def warning(caplog: pytest.LogCaptureFixture) -> str:
    """The one warning that was logged."""
    (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    return record.getMessage()


@pytest.mark.usefixtures("compiler")
def test_the_library_is_in_the_cache_and_can_be_called(cache: Path) -> None:
    path = build.built()
    assert path is not None
    assert [*cache.iterdir()] == [path]
    assert ctypes.CDLL(str(path)).answer() == 42


def test_what_is_there_is_not_compiled_again(compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("CC", str(counting(tmp_path / "counting", compiler, log)))
    first = build.built()
    assert first is not None
    assert build.built() == first
    assert log.read_text() == "run\n"


@pytest.mark.usefixtures("compiler")
def test_another_source_has_another_name(sources: Path, cache: Path) -> None:
    first = build.built()
    (sources / "answer.c").write_text(SOURCE.replace("42", "43"))
    second = build.built()
    assert first is not None
    assert second is not None
    assert {*cache.iterdir()} == {first, second}
    assert ctypes.CDLL(str(second)).answer() == 43


@pytest.mark.usefixtures("compiler")
def test_another_header_has_another_name(sources: Path) -> None:
    first = build.built()
    (sources / "answer.h").write_text("")
    assert build.built() != first


@pytest.mark.usefixtures("compiler")
def test_what_was_compiled_is_used_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    first = build.built()
    monkeypatch.setenv("CC", "/nonexistent")
    assert build.built() == first is not None


def test_without_a_home_directory_there_are_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("GENKAN_CACHE_DIR")
    monkeypatch.setattr(Path, "home", nobody)
    assert build.built() is None
    assert "home directory" in warning(caplog)


def test_kernels_that_must_be_and_cannot_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/nonexistent")
    build.check_kernels("auto")
    with pytest.raises(ConfigError, match=r"engine\.kernels: c needs a C compiler"):
        build.check_kernels("c")


def test_the_compiler_may_have_arguments(compiler: str, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sources / "answer.c").write_text("int answer(void) { return ANSWER; }\n")
    monkeypatch.setenv("CC", f"{compiler} -DANSWER=7")
    path = build.built()
    assert path is not None
    assert ctypes.CDLL(str(path)).answer() == 7


def test_without_a_compiler_there_are_none(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("CC", "/nonexistent")
    assert build.built() is None
    assert "cannot be built" in warning(caplog)
    assert "/nonexistent" in warning(caplog)


def test_a_processor_without_the_instructions_gets_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build, "_NEEDED", frozenset({"avx512f", "avx512bw"}))
    monkeypatch.setattr(build, "_processor", lambda: b"flags\t\t: fpu sse2 avx512f\nmodel name\t: A Processor")
    assert build.missing_instructions() == {"avx512bw"}
    assert build.built() is None
    assert "need a processor with ['avx512bw']" in warning(caplog)


def test_a_compiler_that_fails_gives_none_and_the_log_has_its_words(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = script(tmp_path / "broken", '[ "$1" = --version ] && exit\necho "it is all wrong" >&2\nexit 1')
    monkeypatch.setenv("CC", str(broken))
    assert build.built() is None
    assert "it is all wrong" in warning(caplog)
    assert [*cache.iterdir()] == []


@pytest.mark.usefixtures("compiler")
def test_a_source_that_does_not_compile_leaves_nothing_behind(
    sources: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (sources / "answer.c").write_text("int answer(void) { return forty_two; }\n")
    assert build.built() is None
    assert "forty_two" in warning(caplog)
    assert [*cache.iterdir()] == []


@pytest.mark.usefixtures("compiler")
def test_a_cache_that_is_no_directory_gives_none(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.write_text("in the way")
    assert build.built() is None
    assert str(cache) in warning(caplog)


@pytest.mark.usefixtures("compiler")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_may_not_be_written_gives_none(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.mkdir(mode=0o500)
    assert build.built() is None
    assert "Permission denied" in warning(caplog)


@pytest.mark.usefixtures("compiler")
def test_several_may_build_at_once(cache: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = {future.result() for future in [pool.submit(build.built) for _ in range(8)]}
    (path,) = paths
    assert path is not None
    assert [*cache.iterdir()] == [path]
    assert ctypes.CDLL(str(path)).answer() == 42


def test_the_cache_is_in_the_home_directory_unless_said_otherwise(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build.cache_dir() == cache
    monkeypatch.delenv("GENKAN_CACHE_DIR")
    monkeypatch.setenv("HOME", "/somewhere")
    assert build.cache_dir() == Path("/somewhere/.cache/genkan")


@pytest.mark.usefixtures("compiler")
def test_built_as_a_command_it_says_where_the_library_is(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="genkan.engine"):
        build.main()
    assert str(next(cache.iterdir())) in caplog.text
