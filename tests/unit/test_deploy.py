"""What deploy/ and the Dockerfile promise: accepted by the linters of their formats, and in agreement with the code.

nginx and Orthanc run with these files in tests/integration/test_deploy.py.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import flask
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement

from service import __version__
from service.config import _OTHERS, PREFIX, ConfigError, Effective, Settings, check_access, load
from service.http.models import blueprint as models_blueprint

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose"
BASE = DEPLOY / "kubernetes" / "base"
MONITORING = DEPLOY / "monitoring"
VENV = Path(sys.executable).parent
YAML_FILES = sorted([*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")])
KUBERNETES_VERSIONS = ("1.30", "1.37")
YAMLLINT = (
    "{extends: default, rules: {line-length: {max: 130, allow-non-breakable-words: true}, document-start: disable, "
    "truthy: {check-keys: false}, comments: {min-spaces-from-content: 1}, octal-values: enable}}"
)
METRICS = {
    "pellucid_analyses_total",
    "pellucid_associations",
    "pellucid_deliveries",
    "pellucid_dicom_receivers",
    "pellucid_disk_free_bytes",
    "pellucid_disk_reserve_bytes",
    "pellucid_model_images_total",
    "pellucid_model_seconds_total",
    "pellucid_oldest_waiting_seconds",
    "pellucid_ready",
    "pellucid_received_instances_total",
    "pellucid_request_seconds_bucket",
    "pellucid_request_seconds_count",
    "pellucid_series_open",
    "pellucid_stage_seconds_bucket",
    "pellucid_stored_analyses",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
}


def run(*command: object, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, env={**os.environ, **(env or {})}
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}:\n{output}"
    return output


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def documents() -> list[dict[str, Any]]:
    return [part for path in sorted(BASE.glob("*.yaml")) for part in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str, name: str = "pellucid") -> dict[str, Any]:
    (found,) = (part for part in documents() if part["kind"] == kind and part["metadata"]["name"] == name)
    return found


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


# -- formats --------------------------------------------------------------------------------------------------------------


def test_dockerfile_passes_hadolint() -> None:
    assert run(VENV / "hadolint", "--failure-threshold", "info", ROOT / "Dockerfile") == ""


def test_yaml_passes_yamllint() -> None:
    assert len(YAML_FILES) >= 14
    assert run(VENV / "yamllint", "--strict", "-d", YAMLLINT, *YAML_FILES) == ""


def test_compose_files_follow_the_compose_specification() -> None:
    run(VENV / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *COMPOSE.glob("compose*.yaml"))


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_kubernetes_objects_follow_the_schemas_of_kubernetes(version: str) -> None:
    checked = [part for part in documents() if part["kind"] != "Kustomization"]
    for part in checked:
        kubernetes_validate.validate(part, version, strict=True)
    assert len(checked) >= 12
    broken = of_kind("StatefulSet")
    broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


def test_systemd_unit_is_understood(tmp_path: Path) -> None:
    unit = (DEPLOY / "systemd" / "pellucid.service").read_text()
    path = tmp_path / "pellucid.service"
    path.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={shutil.which('true')}", unit))
    drop_in = tmp_path / "pellucid.service.d"
    drop_in.mkdir()
    text = (DEPLOY / "systemd" / "network.conf").read_text()
    (drop_in / "network.conf").write_text(re.sub(r"(?m)^#(?=[A-Z]\w+=)", "", text))
    assert run("systemd-analyze", "verify", "--man=no", path) == ""


# -- agreement with the code ----------------------------------------------------------------------------------------------


def test_every_variable_is_a_setting() -> None:
    known = {PREFIX + name.upper() for name in Settings.__dataclass_fields__} | set(_OTHERS)
    texts = {path: path.read_text() for path in DEPLOY.rglob("*") if path.is_file() and "secrets" not in path.parts}
    texts[ROOT / "Dockerfile"] = (ROOT / "Dockerfile").read_text()
    found = {(path.name, name) for path, text in texts.items() for name in re.findall(r"\bPELLUCID_[A-Z0-9_]*\w", text)}
    assert len(found) >= 10
    # what Kubernetes would set by itself is named where it is switched off
    assert {entry for entry in found if entry[1] not in known} == set()


def test_every_image_has_the_version_of_the_code() -> None:
    assert read(COMPOSE / "compose.yaml")["services"]["pellucid"]["image"] == f"pellucid:{__version__}"
    assert read(COMPOSE / "compose.gpu.yaml")["services"]["pellucid"]["image"] == f"pellucid:{__version__}-gpu"
    assert read(BASE / "kustomization.yaml")["images"][0]["newTag"] == __version__
    assert read(DEPLOY / "kubernetes" / "gpu" / "kustomization.yaml")["images"][0]["newTag"] == f"{__version__}-gpu"
    for path in (ROOT / "Dockerfile", DEPLOY / "README.md"):
        assert set(re.findall(r"pellucid:([\d.]+\d)", path.read_text())) == {__version__}, path


def test_image_runs_without_root_and_opens_the_ports_of_the_settings() -> None:
    text = (ROOT / "Dockerfile").read_text()
    stages = re.split(r"(?m)^FROM ", text)[1:]
    targets = {stage.split("\n")[0].split(" AS ")[1]: stage for stage in stages}
    assert list(targets)[-1] == "cpu"
    assert targets["cpu"].startswith("base ") and targets["gpu"].startswith("base ")
    assert re.findall(r"(?m)^USER (.+)$", targets["base"]) == ["10001:10001"]
    assert not any(re.search(r"(?m)^USER ", targets[name]) for name in ("cpu", "gpu"))
    (ports,) = re.findall(r"(?m)^EXPOSE (.+)$", text)
    assert {int(port) for port in ports.split()} == {Settings.port, Settings.dicom_port}
    assert "dicom3tools" in targets["base"]  # dciodvfy
    for name in re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", text):
        for source in name.split():
            assert (ROOT / source).exists(), source
            assert any(
                f"!{top}" in (ROOT / ".dockerignore").read_text().split("\n") for top in (source, source.split("/")[0])
            )


@pytest.mark.skipif(sys.platform != "linux", reason="the GPU build of ONNX Runtime is for Linux")
def test_gpu_image_has_the_cuda_that_onnxruntime_was_built_for() -> None:
    from onnxruntime.capi import build_and_package_info

    lines = (DEPLOY / "container" / "gpu.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    wanted = [Requirement(text) for text in importlib.metadata.requires("onnxruntime-gpu") or ()]
    chosen = [
        each for each in wanted if each.marker and any(each.marker.evaluate({"extra": e}) for e in ("cuda", "cudnn"))
    ]
    assert len(chosen) >= 4
    for each in chosen:
        assert each.specifier.contains(pins[each.name]), each
    major = build_and_package_info.cuda_version.split(".")[0]
    text = (ROOT / "Dockerfile").read_text()
    assert f"/nvidia/cu{major}/lib" in text and f"nvidia-cudnn-cu{major}" in pins
    (python,) = set(re.findall(r"FROM python:(\d\.\d+)", text))
    assert set(re.findall(r"/lib/python(\d\.\d+)/", text)) == {python}


# -- compose --------------------------------------------------------------------------------------------------------------


def services() -> dict[str, Any]:
    found: dict[str, Any] = read(COMPOSE / "compose.yaml")["services"]
    return found


@pytest.mark.parametrize("name", ["pellucid", "postgres", "orthanc", "proxy"])
def test_container_is_hardened(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service and "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert re.fullmatch(r"[\w/-]+:\d+(\.\d+)+(-\w+)?", service["image"]), "a tag of one version"
    without_root = "user" in service and not service["user"].startswith("0")
    assert without_root or name == "pellucid" or "unprivileged" in service["image"]
    assert "healthcheck" in service or name == "pellucid", "only our own image brings one"
    assert all(port.startswith("${ADDRESS:-127.0.0.1}:") for port in service.get("ports", []))


def test_networks_keep_apart_what_need_not_meet() -> None:
    networks = read(COMPOSE / "compose.yaml")["networks"]
    members = {net: {name for name, each in services().items() if net in each["networks"]} for net in networks}
    assert members["database"] == {"pellucid", "postgres"} and networks["database"]["internal"]
    assert members["imaging"] == {"pellucid", "orthanc", "proxy"} and networks["imaging"]["internal"]
    assert members["front"] == {"orthanc", "proxy"} == {name for name, each in services().items() if "ports" in each}


def test_what_is_mounted_is_there(prepared: Path) -> None:
    whole = read(COMPOSE / "compose.yaml")
    for name, secret in whole["secrets"].items():
        assert (prepared / name).is_file() and secret["file"] == f"./secrets/{name}"
    for service in whole["services"].values():
        for volume in service.get("volumes", []):
            if isinstance(volume, dict):
                assert volume["read_only"] is True and (COMPOSE / volume["source"]).is_file()
            else:
                assert volume.split(":")[0] in whole["volumes"]
        for secret in service.get("secrets", []):
            assert (secret["source"] if isinstance(secret, dict) else secret) in whole["secrets"]
    variables = set(re.findall(r"\$\{(\w+)", (COMPOSE / "compose.yaml").read_text()))
    assert variables == set(re.findall(r"(?m)^(\w+)=", (COMPOSE / ".env.example").read_text()))


def test_a_stop_waits_longer_than_the_service() -> None:
    assert seconds(services()["pellucid"]["stop_grace_period"]) > Settings.stop_wait_s
    unit = (DEPLOY / "systemd" / "pellucid.service").read_text()
    assert int(re.findall(r"(?m)^TimeoutStopSec=(\d+)$", unit)[0]) > Settings.stop_wait_s


def orthanc_settings() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(re.sub(r"(?m)^\s*//.*$", "", (COMPOSE / "orthanc.json").read_text()))
    return found


# -- secrets and certificates ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that prepare.sh has filled for a computer called pellucid.test."""
    folder = tmp_path_factory.mktemp("deploy") / "secrets"
    run("bash", COMPOSE / "prepare.sh", "pellucid.test", env={"SECRETS": str(folder)})
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_prepared_settings_start_the_service_and_reach_orthanc(prepared: Path) -> None:
    settings = load(environ={}, config=prepared / "pellucid.toml").settings
    check_access(settings)
    assert settings.tokens == ((prepared / "token").read_text().strip(),) and len(settings.tokens[0]) == 48
    assert settings.database == (
        f"postgresql+psycopg://pellucid:{(prepared / 'database-password').read_text().strip()}@postgres:5432/pellucid"
    )
    orthanc = orthanc_settings()
    (destination,) = settings.destinations
    assert (destination.host, destination.port, destination.ae_title) == (
        "orthanc",
        orthanc["DicomPort"],
        orthanc["DicomAet"],
    )
    assert destination.host in services() and destination.commitment
    modality = orthanc["DicomModalities"]["pellucid"]
    assert (modality["AET"], modality["Host"], modality["Port"]) == (settings.ae_title, "pellucid", settings.dicom_port)
    assert modality["AllowStorageCommitment"] is True
    assert settings.dicom_peers == (f"{orthanc['DicomAet']}@*",)
    web = json.loads((prepared / "orthanc-access.json").read_text())
    assert web["DicomWeb"]["Servers"]["pellucid"]["HttpHeaders"] == {"Authorization": f"Bearer {settings.tokens[0]}"}
    assert not set(web) & set(orthanc), "Orthanc refuses a section that stands in two files"


def test_the_destination_by_dicomweb_that_is_commented_out_is_valid(prepared: Path, tmp_path: Path) -> None:
    text = (prepared / "pellucid.toml").read_text()
    head, dicomweb = text.split("# The same by DICOMweb, instead:\n")
    path = tmp_path / "pellucid.toml"
    path.write_text(head + re.sub(r"(?m)^# ", "", dicomweb))
    assert [each.kind for each in load(environ={}, config=path).settings.destinations] == ["dicom", "stow"]


@pytest.mark.parametrize(
    "path", [COMPOSE / "pellucid.toml", BASE / "secret.example.yaml"], ids=["compose", "kubernetes"]
)
def test_place_holders_do_not_start_the_service(path: Path, tmp_path: Path) -> None:
    text = path.read_text() if path.suffix == ".toml" else read(path)["stringData"]["pellucid.toml"]
    copy = tmp_path / "pellucid.toml"
    copy.write_text(text)
    with pytest.raises(ConfigError, match="token"):
        load(environ={}, config=copy)


def test_preparing_again_changes_nothing_and_shows_nothing(prepared: Path) -> None:
    before = contents(prepared)
    output = run("bash", COMPOSE / "prepare.sh", "other.test", env={"SECRETS": str(prepared)})
    assert contents(prepared) == before
    assert not any((prepared / name).read_text().strip() in output for name in ("token", "pacs-password"))
    assert stat.S_IMODE(prepared.stat().st_mode) == 0o700
    assert stat.S_IMODE((prepared / "ca.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((prepared / "pellucid.toml").stat().st_mode) == 0o644  # each container reads as another user


def test_certificate_is_for_this_name_and_of_this_authority(prepared: Path) -> None:
    for name, good in (("pellucid.test", True), ("localhost", True), ("elsewhere.test", False)):
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", name]
        done = subprocess.run([*command, "-CAfile", prepared / "ca.pem", prepared / "tls.pem"], capture_output=True)
        assert (done.returncode == 0) is good, done.stderr


def test_secrets_stay_out_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text((COMPOSE / ".gitignore").read_text())
    run("git", "init", "--quiet", cwd=tmp_path)
    assert run("git", "check-ignore", "secrets/token", ".env", cwd=tmp_path).split() == ["secrets/token", ".env"]


# -- Kubernetes -----------------------------------------------------------------------------------------------------------


def pod() -> dict[str, Any]:
    found: dict[str, Any] = of_kind("StatefulSet")["spec"]["template"]["spec"]
    return found


def kubernetes_settings(tmp_path: Path) -> Effective:
    text = of_kind("Secret")["stringData"]["pellucid.toml"].replace("@TOKEN@", "t" * 32).replace("@DATABASE@", "d" * 32)
    path = tmp_path / "pellucid.toml"
    path.write_text(text)
    environ = dict(of_kind("ConfigMap", "pellucid-settings")["data"])
    assert environ.pop("PELLUCID_CONFIG") == "/etc/pellucid/pellucid.toml"
    return load(environ=environ, config=path)


def test_kustomization_names_every_manifest_but_the_example() -> None:
    named = set(read(BASE / "kustomization.yaml")["resources"])
    assert named == {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml", "secret.example.yaml"}


def test_pod_meets_the_restricted_standard() -> None:
    assert of_kind("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    (container,) = pod()["containers"]
    assert pod()["automountServiceAccountToken"] is False and pod()["enableServiceLinks"] is False
    assert pod()["securityContext"]["runAsNonRoot"] is True and pod()["securityContext"]["runAsUser"] == 10001
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= set(container["resources"]["limits"]) & set(container["resources"]["requests"])


def test_probes_ask_for_pages_that_exist() -> None:
    app = flask.Flask("probe")
    app.register_blueprint(models_blueprint)
    routes = {rule.rule for rule in app.url_map.iter_rules()}
    (container,) = pod()["containers"]
    asked = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert set(asked.values()) <= routes
    assert asked["livenessProbe"] != asked["readinessProbe"], "a pod that cannot work now is not to be killed for it"
    assert all(container[name]["httpGet"]["port"] == "http" for name in asked)
    image = (ROOT / "Dockerfile").read_text()
    (path,) = re.findall(rf"http://127\.0\.0\.1:{Settings.port}(/\S+?)'", image)
    assert path in routes


def test_kubernetes_settings_agree_with_the_manifests(tmp_path: Path) -> None:
    settings = kubernetes_settings(tmp_path).settings
    check_access(settings)
    (container,) = pod()["containers"]
    mounts = {each["mountPath"] for each in container["volumeMounts"]}
    assert {str(settings.data_dir), settings.blobs_dir, "/tmp", "/etc/pellucid"} == mounts
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"http": settings.port, "dicom": settings.dicom_port}
    stop = pod()["terminationGracePeriodSeconds"] - int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert stop > settings.stop_wait_s
    assert of_kind("StatefulSet")["spec"]["replicas"] > 1
    assert settings.database and of_kind("PersistentVolumeClaim", "pellucid-blobs")["spec"]["accessModes"] == [
        "ReadWriteMany"
    ]


def test_network_is_open_where_something_flows_and_nowhere_else(tmp_path: Path) -> None:
    settings = kubernetes_settings(tmp_path).settings
    nothing = of_kind("NetworkPolicy", "nothing")["spec"]
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    labels = of_kind("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    inward, outward = (of_kind("NetworkPolicy", name)["spec"] for name in ("pellucid-in", "pellucid-out"))
    assert inward["podSelector"] == outward["podSelector"] == {"matchLabels": labels}
    assert sorted(port["port"] for rule in inward["ingress"] for port in rule["ports"]) == ["dicom", "http"]
    out = {port["port"] for rule in outward["egress"] for port in rule["ports"]}
    assert {53, 5432, *(each.port for each in settings.destinations)} <= out
    assert all(rule.get("from") for rule in inward["ingress"]) and all(rule.get("to") for rule in outward["egress"])
    senders = {peer.split("@")[1] for peer in settings.dicom_peers}
    assert set(of_kind("Service", "pellucid-dicom")["spec"]["loadBalancerSourceRanges"]) == senders
    assert {each["ipBlock"]["cidr"] for each in inward["ingress"][1]["from"]} == senders
    assert of_kind("Service", "pellucid-dicom")["spec"]["externalTrafficPolicy"] == "Local"


def test_services_ingress_and_budget_find_the_pods() -> None:
    labels = of_kind("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    names = {port["name"] for port in pod()["containers"][0]["ports"]}
    found = [part for part in documents() if part["kind"] == "Service"]
    for service in found:
        assert service["spec"]["selector"] == labels
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    assert of_kind("StatefulSet")["spec"]["serviceName"] in {service["metadata"]["name"] for service in found}
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    ingress = of_kind("Ingress")["spec"]
    backend = ingress["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "pellucid", "port": {"name": "http"}}
    assert ingress["tls"][0]["hosts"] == [ingress["rules"][0]["host"]]


# -- monitoring -----------------------------------------------------------------------------------------------------------


def rules() -> list[dict[str, Any]]:
    return [rule for group in read(MONITORING / "rules.yml")["groups"] for rule in group["rules"]]


def test_prometheus_accepts_the_configuration_and_the_rules(tmp_path: Path) -> None:
    shutil.copy(MONITORING / "rules.yml", tmp_path)
    token = tmp_path / "token"
    token.write_text("t" * 32)
    text = (MONITORING / "prometheus.yml").read_text().replace("/etc/prometheus/pellucid-token", str(token))
    (tmp_path / "prometheus.yml").write_text(text)
    run("promtool", "check", "config", tmp_path / "prometheus.yml")
    run("promtool", "check", "rules", MONITORING / "rules.yml")


def test_alerts_fire_when_they_must_and_only_then() -> None:
    run("promtool", "test", "rules", "rules.test.yml", cwd=MONITORING)
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    cases = [case for test in read(MONITORING / "rules.test.yml")["tests"] for case in test.get("alert_rule_test", [])]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alerts


def test_alerts_say_how_bad_and_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert set(rule["annotations"]) == {"summary", "action"}
            for name in re.findall(r"[a-z]+(?:_[a-z]+)+", rule["annotations"]["action"]):
                assert name in Settings.__dataclass_fields__, name


def metrics_of(expression: str) -> set[str]:
    """Names of metrics that are not recorded by a rule."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", expression)
    return set(re.findall(r"(?<![\w:])(?:pellucid|process)_\w+", bare))


def test_rules_and_dashboard_use_metrics_that_exist() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used: set[str] = set()
    for expression in [rule["expr"] for rule in rules()] + [target["expr"] for target in targets()]:
        used |= metrics_of(expression)
        assert set(re.findall(r"\bpellucid:[\w:]+", expression)) <= recorded
    assert used == METRICS


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    return found


def targets() -> list[dict[str, Any]]:
    return [target for panel in dashboard()["panels"] for target in panel.get("targets", [])]


def test_dashboard_asks_what_prometheus_understands(tmp_path: Path) -> None:
    expressions = [target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*") for target in targets()]
    assert len(expressions) >= 20 and not any("$" in each for each in expressions)
    recorded = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(expressions)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    run("promtool", "check", "rules", tmp_path / "rules.yml")


def test_dashboard_lies_flat_and_takes_any_data_source() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    fields: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        covered = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not covered & fields and place["x"] + place["w"] <= 24, panel["title"]
        fields |= covered
    variables = {each["name"]: each for each in dashboard()["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for part in [*targets(), *(panel for panel in panels if panel["type"] != "row"), variables["instance"]]:
        assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


# -- reverse proxy --------------------------------------------------------------------------------------------------------


def test_proxy_has_the_limits_of_the_service() -> None:
    text = (DEPLOY / "nginx" / "locations.conf").read_text()
    assert Settings.upload_bytes == 1 << 30
    assert re.findall(r"client_max_body_size (\S+);", text) == ["1g"]
    assert of_kind("Ingress")["metadata"]["annotations"]["nginx.org/client-max-body-size"] == "1g"
    (wait,) = re.findall(r"(?m)^proxy_read_timeout (\d+)s;", text)
    assert int(wait) > Settings.__dataclass_fields__["sync_wait_s"].metadata["high"]
    for path in (DEPLOY / "nginx" / "pellucid.conf", COMPOSE / "nginx.conf"):
        assert re.findall(r"server (?:pellucid|127\.0\.0\.1):(\d+);", path.read_text()) == [str(Settings.port)]
