"""compose.yaml, Dockerfile and Prometheus agree with each other and with the Compose specification."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from microopt.runtime import DEFAULT_HTTP_PORT
from microopt.settings import HttpSettings, LogSettings, NatsSettings, Settings
from microopt_actuator.agent import DRIVERS
from microopt_actuator.bindings import Bindings, Bound
from microopt_actuator.settings import ActuatorSettings
from microopt_collector.settings import CollectorSettings
from microopt_testbed.emulator_agent import EmulatorSettings

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
BUILT = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROMETHEUS = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text(encoding="utf-8"))
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]


def follows_the_specification(path: Path) -> subprocess.CompletedProcess[str]:
    """Validate with the copy of the Compose specification's schema that check-jsonschema carries."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def copied_from_the_checkout() -> list[str]:
    copies = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for copy in copies for source in copy.split()[:-1]]


def host_side(mount: str) -> str:
    return mount.split(":")[0]


def test_compose_file_follows_the_compose_specification():
    result = follows_the_specification(ROOT / "compose.yaml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_specification_refuses_a_misspelt_key(tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text("services: {router: {image: router, restarts: always}}\n", encoding="utf-8")
    result = follows_the_specification(wrong)
    assert result.returncode == 1
    assert "restarts" in result.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_published_ports_are_reached_from_this_host_alone(name):
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


def test_only_the_bus_and_prometheus_publish_ports():
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"nats", "prometheus"}


@pytest.mark.parametrize("name", BUILT)
def test_every_image_is_built_for_a_role_with_a_console_script(name):
    service = BUILT[name]["build"]["args"]["SERVICE"]
    assert f"microopt-{service}" in SCRIPTS
    assert BUILT[name]["image"] == f"microopt-{service}"


def test_every_role_runs():
    assert set(DEFAULT_HTTP_PORT) <= set(BUILT)


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_has_a_privilege_that_it_does_not_need(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)


@pytest.mark.parametrize("name", BUILT)
def test_prometheus_finds_every_replica_of_an_agent(name):
    port = BUILT[name]["environment"].get("MICROOPT_HTTP_PORT") or DEFAULT_HTTP_PORT[name]
    found = [job["dns_sd_configs"] for job in PROMETHEUS["scrape_configs"] if job["job_name"] == name]
    assert [(sd["names"], sd["type"], sd["port"]) for [sd] in found] == [([name], "A", port)]
    assert not {"container_name", "ports"} & set(BUILT[name])  # either would forbid a second replica


def test_every_mounted_file_exists():
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    files = [host_side(mount) for mount in mounts if mount.startswith("./")]
    assert files
    assert [path for path in files if not (ROOT / path).is_file()] == []


def test_what_the_dockerfile_copies_exists_and_enters_the_build():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sources = copied_from_the_checkout()
    assert {"pyproject.toml", "constraints.txt", "shared", "services", "testbed"} <= set(sources)
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [source for source in sources if f"!{source}" not in ignored] == []


def test_images_run_as_an_unprivileged_user():
    last_stage = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!root\b|0\b)\d+:\d+$", last_stage, re.MULTILINE)


def test_every_command_that_replaces_an_entry_point_is_a_console_script():
    assert {command for service in BUILT.values() for command in service.get("entrypoint", [])} <= set(SCRIPTS)


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ("nats", NatsSettings),
        ("http", HttpSettings),
        ("log", LogSettings),
        ("collector", CollectorSettings),
        ("actuator", ActuatorSettings),
        ("testbed", EmulatorSettings),
    ],
)
def test_settings_of_the_containers_are_valid(table, kind):
    assert isinstance(Settings.load(ROOT / "deploy/microopt.toml", {}).table(table, kind), kind)


def test_resources_are_bound_to_a_driver_that_there_is():
    settings = Settings.load(ROOT / "deploy/microopt.toml", {}).table("actuator", ActuatorSettings)
    bound = Bindings(settings.bindings, DRIVERS).find("1-000001", "gnb_cpu")
    assert bound == Bound("testbed", "1-000001.gnb_cpu")


def test_environment_of_the_containers_reaches_the_settings():
    environment = {name: str(value) for name, value in BUILT["testbed"]["environment"].items()}
    settings = Settings.load(ROOT / "deploy/microopt.toml", environment)
    assert settings.table("http", HttpSettings) == HttpSettings(host="0.0.0.0", port=9609)
    assert settings.table("nats", NatsSettings).url == "nats://nats:4222"
