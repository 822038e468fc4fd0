"""Which Prometheus to ask what, and how often."""

from typing import Annotated, ClassVar

from msgspec import Meta, field

from microopt.errors import ConfigError
from microopt.messages import Name
from microopt_collector.sources.base import CommonSettings
from microopt_collector.sources.mapping import Scale, check_slices
from microopt_collector.sources.prometheus.plan import make_plan
from microopt_collector.sources.prometheus.quantities import Quantities


class PrometheusSourceSettings(
    CommonSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="prometheus"
):
    """A PromQL query for each quantity; what is not given is the preset's."""

    unit_setting: ClassVar[str] = "scale.qos"

    name: Name = "prometheus"
    url: Annotated[str, Meta(pattern="^https?://[^/@?#]+[^@?#]*$")] = "http://127.0.0.1:9090"
    """Without /api/v1; user and password do not belong into it."""
    preset: str | None = None
    queries: Quantities[str] = Quantities()
    """Placeholders such as `$window` are `parameters`; a dollar is `$$`; an empty one undoes the preset's."""
    scale: Quantities[Scale] = Quantities()
    """From each query's unit to the SLA's or the resource's: 1e-6 makes Mbit/s of bit/s."""
    age: Quantities[str] = Quantities()
    """Queries that give how old the samples are, in seconds, with the same label or none."""
    max_age_s: Annotated[float, Meta(gt=0.0)] | None = None
    """By default the preset's, or a minute."""
    up: str | None = None
    """A selector of `up` for all targets that the queries need."""
    parameters: dict[str, str] = field(default_factory=dict)
    slice_label: str | None = None
    """By default the preset's, or `snssai`."""
    slice: str | None = None
    """Instead of `slice_label`: the one slice that all results are of."""
    slice_names: dict[str, str] = field(default_factory=dict)
    """What the label calls slices → their S-NSSAI."""
    period_s: Annotated[float, Meta(ge=0.1, le=3600.0)] = 5.0
    timeout_s: Annotated[float, Meta(gt=0.0, le=600.0)] = 5.0
    username: str | None = None
    password_file: str | None = None
    bearer_token_file: str | None = None
    tls_ca: str | None = None

    @property
    def where(self) -> str:
        """Return the server and the preset."""
        return f"{self.url} preset {self.preset}" if self.preset else self.url

    def __post_init__(self) -> None:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together")
        if self.username is not None and self.bearer_token_file is not None:
            raise ValueError("give username and password_file, or bearer_token_file")
        check_slices(self.slice_names, self.slice)
        try:
            make_plan(self)
        except ConfigError as error:
            raise ValueError(str(error)) from error
