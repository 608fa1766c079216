"""deploy/compose.yaml fits Compose's schema, and what it mounts and sets is there."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from genkan.config import load

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy"
COMPOSE = FOLDER / "compose.yaml"
CHECK: list[str | Path] = [Path(sys.executable).parent / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"]


def services() -> dict[str, Any]:
    return dict(yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"])


def is_compose(path: Path) -> bool:
    return subprocess.run([*CHECK, path], capture_output=True, check=False).returncode == 0


def test_it_fits_the_schema(tmp_path: Path) -> None:
    assert is_compose(COMPOSE)
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text(encoding="utf-8").replace("depends_on", "depends-on"), encoding="utf-8")
    assert not is_compose(wrong)


def test_every_file_it_mounts_is_there() -> None:
    mounts = [mount.split(":")[0] for service in services().values() for mount in service.get("volumes", ())]
    files = [mount for mount in mounts if mount.startswith(".")]
    assert len(files) == 5
    for file in files:
        assert (FOLDER / file).is_file(), file


def test_every_image_is_pinned_and_the_rest_comes_back() -> None:
    for name, service in services().items():
        assert service["restart"] == "unless-stopped"
        if name != "genkan":
            assert ":" in service["image"]
            assert not service["image"].endswith(":latest")


def test_secrets_are_asked_for_and_not_given() -> None:
    example = (FOLDER / "example.env").read_text(encoding="utf-8")
    for name in ("GENKAN_KEY_SECRET", "REDIS_PASSWORD", "GRAFANA_PASSWORD"):
        assert f"${{{name}:?" in COMPOSE.read_text(encoding="utf-8")
        assert f"\n{name}=\n" in example


def test_the_gateway_gets_what_its_configuration_reads() -> None:
    config = load(ROOT / "configs" / "production.yaml", {})
    gateway = services()["genkan"]
    assert {config.redis.url_env, config.keys.secret_env} <= gateway["environment"].keys()
    assert f"journal:{config.redis.data_dir}" in gateway["volumes"]
    assert gateway["environment"]["GENKAN_CONFIG"].endswith("/configs/production.yaml")


def test_prometheus_scrapes_the_gateway_under_the_name_that_alerts_expect() -> None:
    scrape = yaml.safe_load((FOLDER / "compose" / "prometheus.yaml").read_text(encoding="utf-8"))
    (job,) = scrape["scrape_configs"]
    assert job["job_name"] == "genkan"
    assert job["static_configs"] == [{"targets": ["genkan:3000"]}]
    alerts = (ROOT / "configs" / "grafana" / "alerts.yaml").read_text(encoding="utf-8")
    assert 'up{job="genkan"}' in alerts
