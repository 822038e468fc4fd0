"""What every agent counts; an agent adds its own to the same registry."""

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

LATENCY_BUCKETS_S: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)


class AgentMetrics:
    """The runtime's own metrics, in a registry that is injected so that agents and tests never share one."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.messages = Counter(
            "microopt_agent_messages_total",
            "Messages handled, by what became of them: ok, retried, dead.",
            ["message", "outcome"],
            registry=self.registry,
        )
        self.handle_s = Histogram(
            "microopt_agent_handle_duration_seconds",
            "Time that a handler took for one message.",
            ["message"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.published = Counter(
            "microopt_agent_published_total",
            "Messages stored by JetStream: new, or known already (duplicate).",
            ["message", "outcome"],
            registry=self.registry,
        )
        self.publish_retries = Counter(
            "microopt_agent_publish_retries_total",
            "Attempts to publish that were repeated under the same id.",
            registry=self.registry,
        )
        self.dead = Counter(
            "microopt_agent_dead_letters_total",
            "Messages that could not be used and were put on the dead-letter subject.",
            ["message"],
            registry=self.registry,
        )
        self.slow_consumer_drops = Counter(
            "microopt_agent_slow_consumer_drops_total",
            "Core NATS messages that the client dropped because a subscription lagged behind.",
            registry=self.registry,
        )
        self.reconnects = Counter(
            "microopt_agent_reconnects_total", "Reconnections to the bus.", registry=self.registry
        )
        self.connected = Gauge("microopt_agent_connected", "1 while the bus is connected.", registry=self.registry)

    def with_process_metrics(self) -> "AgentMetrics":
        """Add CPU, memory and interpreter metrics of this process."""
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        return self
