"""The documentation names what the code has."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from microopt.settings import BrokerSettings, HttpSettings, LogSettings, NatsSettings
from microopt_actuator.settings import ActuatorSettings
from microopt_collector.settings import CollectorSettings
from microopt_collector.sources import SourceSettings
from microopt_collector.sources.base import Reason
from microopt_forecaster.settings import ForecasterSettings
from microopt_optimizer.auditor.settings import AuditorSettings
from microopt_optimizer.router.settings import RouterSettings
from microopt_optimizer.tuner.settings import TunerSettings
from microopt_optimizer.worker.agent import OptimizerSettings

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
COLLECTOR = (ROOT / "docs" / "collector.md").read_text()
SETTINGS = (
    NatsSettings,
    HttpSettings,
    LogSettings,
    BrokerSettings,
    CollectorSettings,
    ForecasterSettings,
    RouterSettings,
    OptimizerSettings,
    TunerSettings,
    ActuatorSettings,
    AuditorSettings,
)


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_setting_is_in_the_operations_manual(kind):
    keys = {field.encode_name for field in msgspec.structs.fields(kind)} - {"name"}
    assert {key for key in keys if f"`{key}`" not in OPERATIONS} == set()


@pytest.mark.parametrize("kind", get_args(SourceSettings))
def test_every_setting_of_a_source_is_in_the_collectors_guide(kind):
    keys = {field.encode_name for field in msgspec.structs.fields(kind)}
    assert {key for key in keys if f"`{key}`" not in COLLECTOR} == set()
    assert f'kind = "{kind.__struct_config__.tag}"' in COLLECTOR


@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_reason_of_a_rejection_has_its_remedy(reason):
    assert f"\n| `{reason}` | " in COLLECTOR


def test_every_metric_is_in_the_operations_manual():
    sources = [p for folder in ("shared", "services") for p in (ROOT / folder).rglob("*.py")]
    pattern = re.compile(r'^\s+"(microopt_[a-z_]+_[a-z_]+)",', re.MULTILINE)
    names = {name for path in sources for name in pattern.findall(path.read_text())}
    assert len(names) > 15
    assert {name for name in names if f"`{name}" not in OPERATIONS} == set()


def test_links_between_documents_lead_somewhere():
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} → {target}"


def test_the_readme_shows_lines_of_the_example_as_they_are():
    example = iter((ROOT / "examples" / "custom_optimizer" / "optimizer.py").read_text().splitlines())
    readme = (ROOT / "README.md").read_text()
    block = readme[readme.index("    NAME, HEADROOM") :].split("\n\n    NATS_URL=")[0]
    shown = [line.strip() for line in block.splitlines() if line.strip()]
    assert len(shown) > 10
    for line in shown:
        assert line in (other.strip() for other in example), line  # in the same order
