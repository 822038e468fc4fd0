"""Structured logs on stderr: one event a line, with what it is about as fields."""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import Processor

from microopt.settings import LogSettings


class _Forward(logging.Handler):
    """Says what libraries report through the standard library's logging in the same form as the rest."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(record.name)
        say = logger.error if record.levelno >= logging.ERROR else logger.warning
        say(record.getMessage(), exc_info=record.exc_info or None)


def configure(settings: LogSettings, *, agent: str, stream: TextIO | None = None) -> None:
    """Send this process's structlog events to `stream` (default stderr), each naming `agent`."""
    out = stream or sys.stderr
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(agent=agent)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_renderers(settings, out),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    if not any(isinstance(handler, _Forward) for handler in root.handlers):
        root.addHandler(_Forward(logging.WARNING))


def _renderers(settings: LogSettings, out: TextIO) -> list[Processor]:
    if settings.format == "console" or (settings.format == "auto" and out.isatty()):
        # Not rich's stack traces: they show local variables, and with them passwords.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(sort_keys=False)]
