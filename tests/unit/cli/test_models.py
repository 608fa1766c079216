"""`genkan models`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from genkan.cli.models import models
from genkan.errors import ModelFileError

CONFIG = Path(__file__).parents[3] / "configs" / "local.yaml"


@pytest.mark.parametrize("problem", [ModelFileError("no such wheel"), OSError("No space left on device")])
def test_import_tells_what_was_wrong_in_a_line(problem: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise problem

    monkeypatch.setattr("genkan.model_store.import_models", fail)
    result = CliRunner().invoke(models, ["import", str(CONFIG)])
    assert (result.exit_code, result.output) == (1, f"error: {problem}\n")
