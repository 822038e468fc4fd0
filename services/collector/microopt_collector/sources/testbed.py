"""Measurements of the emulated slices: the NATS source with the testbed's subject and field names."""

from typing import Final

from nats.aio.client import Client

from microopt.messages import Name
from microopt_collector.sources.base import CommonSettings
from microopt_collector.sources.nats import NatsSource, NatsSourceSettings, Subject

SUBJECT: Final = "testbed.measurement.*"


class TestbedSourceSettings(
    CommonSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="testbed"
):
    """Where the testbed says what it measured."""

    subject: Subject = SUBJECT
    name: Name = "testbed"

    @property
    def where(self) -> str:
        """Return the subject."""
        return self.subject


def testbed_source(settings: TestbedSourceSettings, client: Client) -> NatsSource:
    """Return the source for messages such as `{"snssai", "timestamp", "ues", "dl_thpt_per_ue_mbps"}`."""
    return NatsSource(
        NatsSourceSettings(
            subject=settings.subject,
            name=settings.name,
            max_users=settings.max_users,
            slice_field="snssai",
            time_field="timestamp",
            users_field="ues",
            qos_field="dl_thpt_per_ue_mbps",
        ),
        client,
    )
