"""The manifests are Kubernetes', and agree with each other and with the code."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from genkan.config import load

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.31", "1.37")
#: What a stop takes after the grace of requests.
LAST_S = 17
#: Read by a tool of its own: kustomize, Helm.
NOT_OBJECTS = {"kustomization.yaml", "adapter.values.yaml"}


def objects() -> list[dict[str, Any]]:
    paths = sorted(path for path in FOLDER.glob("*.yaml") if path.name not in NOT_OBJECTS)
    return [one for path in paths for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def the(kind: str, name: str) -> dict[str, Any]:
    (found,) = (one for one in objects() if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def pod(kind: str, name: str) -> dict[str, Any]:
    return dict(the(kind, name)["spec"]["template"]["spec"])


def container(kind: str, name: str) -> dict[str, Any]:
    (found,) = pod(kind, name)["containers"]
    return dict(found)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", objects(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_every_manifest_fits_the_schema(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    manifest = the("Deployment", "genkan")
    manifest["spec"]["template"]["spec"]["containers"][0]["readinessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_kustomization_names_every_manifest_but_the_secret() -> None:
    named = set(yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))["resources"])
    assert named == {path.name for path in FOLDER.glob("*.yaml")} - NOT_OBJECTS - {"secret.example.yaml"}


def test_probes_ask_what_is_there() -> None:
    gateway = container("Deployment", "genkan")
    paths = {probe: gateway[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}


def test_before_it_stops_a_pod_drains_by_a_command_that_there_is() -> None:
    command = container("Deployment", "genkan")["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "genkan"
    line = [str(Path(sys.executable).parent / "genkan"), *command[1:], "--help"]
    assert subprocess.run(line, capture_output=True, check=False).returncode == 0


def test_a_server_has_time_to_end() -> None:
    drain = load(ROOT / "configs" / "production.yaml", {}).server.drain
    assert pod("Deployment", "genkan")["terminationGracePeriodSeconds"] > drain.wait_s + drain.grace_s + LAST_S
    gateway = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))["services"]["genkan"]
    linger_s = float(gateway["environment"]["GENKAN__SERVER__DRAIN__LINGER_S"])
    assert int(gateway["stop_grace_period"].removesuffix("s")) > linger_s + drain.grace_s + LAST_S


def test_the_budget_and_the_scaler_are_about_the_deployment() -> None:
    labels = the("Deployment", "genkan")["spec"]["template"]["metadata"]["labels"]
    assert the("PodDisruptionBudget", "genkan")["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert the("Service", "genkan")["spec"]["selector"].items() <= labels.items()
    scaler = the("HorizontalPodAutoscaler", "genkan")["spec"]
    assert (scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"]) == ("Deployment", "genkan")
    adapter = yaml.safe_load((FOLDER / "adapter.values.yaml").read_text(encoding="utf-8"))
    names = [rule["name"]["as"] for rule in adapter["rules"]["custom"]]
    assert [metric["pods"]["metric"]["name"] for metric in scaler["metrics"]] == names


@pytest.mark.parametrize(("kind", "name"), [("Deployment", "genkan"), ("StatefulSet", "redis")])
def test_nothing_runs_as_root_and_no_secret_is_written_down(kind: str, name: str) -> None:
    assert pod(kind, name)["securityContext"]["runAsNonRoot"] is True
    one = container(kind, name)
    assert one["securityContext"]["allowPrivilegeEscalation"] is False
    assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for variable in one["env"]:
        if any(word in variable["name"] for word in ("SECRET", "PASSWORD")):
            assert "secretKeyRef" in variable["valueFrom"]


def test_what_the_configuration_reads_from_the_environment_is_there() -> None:
    config = load(ROOT / "configs" / "production.yaml", {})
    names = {variable["name"] for variable in container("Deployment", "genkan")["env"]}
    assert {config.redis.url_env, config.keys.secret_env, "GENKAN_CONFIG"} <= names
    mounts = {mount["mountPath"] for mount in container("Deployment", "genkan")["volumeMounts"]}
    assert str(config.redis.data_dir) in mounts
