"""What to ask, made of the settings and the preset that they name."""

import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec import Struct

from microopt.errors import ConfigError
from microopt.explain import suggest
from microopt.ids import NAME_PATTERN, slice_id
from microopt_collector.sources.prometheus.quantities import KINDS, Key, Kind, Quantities

if TYPE_CHECKING:
    from microopt_collector.sources.prometheus.settings import PrometheusSourceSettings

T = TypeVar("T")

DEFAULT_LABEL: Final = "snssai"
DEFAULT_MAX_AGE_S: Final = 60.0
_PRESETS: Final = resources.files("microopt_collector") / "presets"


class Hint(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be said when `query` gives anything."""

    query: str
    text: str


class Preset(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings under a name, as a file of the package has them."""

    queries: Quantities[str]
    scale: Quantities[float] = Quantities()
    age: Quantities[str] = Quantities()
    max_age_s: float = DEFAULT_MAX_AGE_S
    up: str = ""
    parameters: dict[str, str] = {}
    slice_label: str = DEFAULT_LABEL
    hints: tuple[Hint, ...] = ()


class Query(Struct, frozen=True, kw_only=True):
    """One thing to ask."""

    kind: Kind
    resource: str
    promql: str
    scale: float
    age: str | None

    @property
    def name(self) -> str:
        """Return what the settings call it, such as `usage.gnb_cpu`."""
        return named((self.kind, self.resource))


class Plan(Struct, frozen=True, kw_only=True):
    """Everything to ask in a poll, and how slices are named in the answers."""

    queries: tuple[Query, ...]
    up: str | None
    max_age_s: float
    slice_label: str
    slice: str | None
    slice_names: Mapping[str, str]
    hints: tuple[Hint, ...]


def make_plan(settings: "PrometheusSourceSettings") -> Plan:
    """Return what `settings` ask for.

    Raises:
        ConfigError: no such preset or parameter, or nothing to ask; the text names it.
    """
    preset = load(settings.preset) if settings.preset else Preset(queries=Quantities())
    fill = _Filler({**preset.parameters, **settings.parameters})
    texts = {
        key: text
        for key, text in fill.all("queries", {**preset.queries.flat(), **settings.queries.flat()}).items()
        if text
    }
    scales = fill.keys({**preset.scale.flat(), **settings.scale.flat()})
    ages = fill.all("age", {**preset.age.flat(), **settings.age.flat()})
    if not texts:
        raise ConfigError("queries: nothing is asked for; give queries.users, queries.qos, or a preset")
    for what, given in (("scale", settings.scale.flat()), ("age", settings.age.flat())):
        if wrong := [named(key) for key in fill.keys(given) if key not in texts]:
            raise ConfigError(f"{what}.{wrong[0]}: there is no query of that name")
    up = fill.text("up", preset.up if settings.up is None else settings.up)
    return Plan(
        queries=tuple(
            Query(kind=key[0], resource=key[1], promql=text, scale=scales.get(key, 1.0), age=ages.get(key) or None)
            for key, text in sorted(texts.items(), key=lambda item: KINDS.index(item[0][0]))
        ),
        up=up or None,
        max_age_s=settings.max_age_s or preset.max_age_s,
        slice_label=settings.slice_label or preset.slice_label,
        slice=None if settings.slice is None else slice_id(settings.slice),
        slice_names=settings.slice_names,
        hints=tuple(Hint(fill.text("hint", hint.query), hint.text) for hint in preset.hints),
    )


def load(name: str) -> Preset:
    """Return a preset of the package.

    Raises:
        ConfigError: there is none of that name.
    """
    known = sorted(path.name.removesuffix(".toml") for path in _PRESETS.iterdir() if path.name.endswith(".toml"))
    if name not in known:
        raise ConfigError(f"preset {name!r}: there is none{suggest(name, known)}")
    return msgspec.convert(tomllib.loads((_PRESETS / f"{name}.toml").read_text(encoding="utf-8")), Preset)


def named(key: Key) -> str:
    """Return what the settings call a quantity, such as `usage.gnb_cpu`."""
    return ".".join(part for part in key if part)


class _Filler:
    """Puts parameters into queries and names of resources."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._parameters = parameters

    def all(self, what: str, texts: Mapping[Key, str]) -> dict[Key, str]:
        return {key: self.text(f"{what}.{named(key)}", text) for key, text in self.keys(texts).items()}

    def keys(self, values: Mapping[Key, T]) -> dict[Key, T]:
        return {(kind, self._resource(kind, resource)): value for (kind, resource), value in values.items()}

    def text(self, where: str, text: str) -> str:
        try:
            return Template(text).substitute(self._parameters).strip()
        except KeyError as error:
            known = ", ".join(sorted(self._parameters)) or "none"
            raise ConfigError(f"{where}: parameter {error.args[0]!r} is not given; known: {known}") from error
        except ValueError as error:
            raise ConfigError(f"{where}: a $ that begins no parameter; write $$ for a dollar") from error

    def _resource(self, kind: Kind, resource: str) -> str:
        filled = self.text(kind, resource)
        if resource and not re.match(NAME_PATTERN, filled):
            raise ConfigError(f"{kind}.{filled}: not a resource's name; use a-z, 0-9, '-' and '_'")
        return filled
