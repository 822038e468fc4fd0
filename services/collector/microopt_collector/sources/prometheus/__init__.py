"""Measurements from a Prometheus, or what speaks its HTTP API (Thanos, Mimir, VictoriaMetrics)."""

from microopt_collector.sources.prometheus.settings import PrometheusSourceSettings
from microopt_collector.sources.prometheus.source import PrometheusSource

__all__ = ["PrometheusSource", "PrometheusSourceSettings"]
