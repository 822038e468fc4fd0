"""The examples of sources that users copy can be used as they are."""

import re
import tomllib
from pathlib import Path

import pytest

from microopt.settings import Settings
from microopt_collector.settings import CollectorSettings

ROOT = Path(__file__).parents[3]


def examples() -> list[str]:
    """Return the indented blocks of the guide that are tables of sources."""
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", (ROOT / "docs/collector.md").read_text(), re.MULTILINE)
    found = [re.sub(r"^    ", "", block, flags=re.MULTILINE).strip() for block in blocks]
    return [block for block in found if block.startswith("[[collector.sources]]")]


def kinds(toml: str) -> list[str]:
    settings = Settings(tomllib.loads(toml), origin="example").table("collector", CollectorSettings)
    return [type(source).__struct_config__.tag for source in settings.sources]


@pytest.mark.parametrize("toml", examples())
def test_an_example_of_the_guide_is_a_source(toml):
    assert len(kinds(toml)) == 1


def test_the_guide_has_an_example_of_every_kind():
    found = {kind for toml in examples() for kind in kinds(toml)}
    assert found == {"cgroup", "mqtt", "nats", "prometheus", "srsran", "testbed"}


def test_the_example_of_a_live_system_is_whole():
    assert kinds((ROOT / "deploy/collector.toml").read_text()) == ["prometheus", "mqtt", "cgroup"]
