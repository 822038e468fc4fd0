"""The configuration of the broker that microopt brings along, and that of compose.yaml, allow the same."""

import re
from pathlib import Path

from microopt.broker import Broker

DEPLOYED = Path(__file__).parents[3] / "deploy/nats.conf"
SETTING = re.compile(r"^\s*(max_payload|sync_interval): (\S+)$", re.MULTILINE)


async def test_both_brokers_take_requests_of_one_size_and_keep_what_they_acknowledged(tmp_path):
    server = Broker(tmp_path / "nats")
    await server.start()
    await server.stop()
    written = SETTING.findall((tmp_path / "nats/nats-server.conf").read_text(encoding="utf-8"))
    deployed = SETTING.findall(DEPLOYED.read_text(encoding="utf-8"))
    assert written == deployed == [("max_payload", "8MB"), ("sync_interval", "always")]
