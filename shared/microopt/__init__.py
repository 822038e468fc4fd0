"""The SDK of microopt: messages, subjects, bus, agent runtime, settings, errors and metrics."""

__version__ = "0.1.0"
