"""One file a source; a new one is its settings in `SourceSettings` and its line in `make`."""

from nats.aio.client import Client

from microopt_collector.sources.base import Source
from microopt_collector.sources.cgroup import CgroupSource, CgroupSourceSettings
from microopt_collector.sources.mqtt import MqttSource, MqttSourceSettings
from microopt_collector.sources.nats import NatsSource, NatsSourceSettings
from microopt_collector.sources.prometheus import PrometheusSource, PrometheusSourceSettings
from microopt_collector.sources.srsran import SrsRanSource, SrsRanSourceSettings
from microopt_collector.sources.testbed import TestbedSourceSettings, testbed_source

SourceSettings = (
    CgroupSourceSettings
    | MqttSourceSettings
    | NatsSourceSettings
    | PrometheusSourceSettings
    | SrsRanSourceSettings
    | TestbedSourceSettings
)
ON_THE_BUS = (NatsSourceSettings, TestbedSourceSettings)
"""Those that hear the collector's own bus."""


def make(settings: SourceSettings, client: Client) -> Source:
    """Return the source that `settings` describe; it does nothing before it is run."""
    match settings:
        case CgroupSourceSettings():
            return CgroupSource(settings)
        case MqttSourceSettings():
            return MqttSource(settings)
        case NatsSourceSettings():
            return NatsSource(settings, client)
        case PrometheusSourceSettings():
            return PrometheusSource(settings)
        case SrsRanSourceSettings():
            return SrsRanSource(settings)
        case TestbedSourceSettings():
            return testbed_source(settings, client)
