"""The table [actuator]."""

from typing import Annotated

from msgspec import Meta, Struct

from microopt_actuator.bindings import Binding
from microopt_actuator.drivers.onos_settings import OnosSettings

_Seconds = Annotated[float, Meta(gt=0.0, le=3600.0)]


class CgroupSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the driver `cgroup` finds and limits process groups; see `drivers.cgroup.CgroupCpu`."""

    root: str = "/sys/fs/cgroup"
    proc: str = "/proc"
    period_us: int = 100_000
    raise_parents: bool = False


class SystemdSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the driver `systemd` asks; see `drivers.systemd.SystemdDriver`."""

    address: str | None = None
    """The D-Bus address; none is the system bus."""
    root: str = "/sys/fs/cgroup"
    """Where the units' cgroups are read."""
    timeout_s: _Seconds = 2.0
    period_us: int | None = None


class KubernetesSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the driver `kubernetes` reaches the API, and how long it waits for kubelets."""

    kubeconfig: str = ""
    """Empty is the service account in a pod, elsewhere `$KUBECONFIG` or `~/.kube/config`."""
    context: str = ""
    """One of the kubeconfig's; empty is its current one."""
    timeout_s: _Seconds = 2.0
    settle_s: _Seconds = 4.0
    """How long a kubelet may take before an attempt counts as failed; it goes on, and so does the reading."""
    allow_restart: bool = False
    """Resize also containers whose resizePolicy restarts them for it."""


class OvsSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the driver `ovs` reaches the switch's database, how long it waits, and what it may make."""

    remote: str = "unix:/var/run/openvswitch/db.sock"
    tls_ca: str = ""
    """For ssl: remotes, as are `tls_cert` and `tls_key`: the path of the switches' authority."""
    tls_cert: str = ""
    tls_key: str = ""
    timeout_s: _Seconds = 2.0
    """How long ovsdb-server may take to answer."""
    settle_s: _Seconds = 2.0
    """How long ovs-vswitchd may take to follow the database."""
    create: bool = False
    """Make queues that a port's QoS lacks."""
    port_mbps: Annotated[float, Meta(gt=0.0, le=34_359.0)] | None = None
    """With `create`, the rate of the QoS that a port without one gets; none is made otherwise."""


class TestbedDriverSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the driver `testbed` asks."""

    timeout_s: _Seconds = 2.0


class ActuatorSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What this actuator owns, and how it holds it."""

    bindings: list[Binding] = []
    check_every_s: _Seconds = 1.0
    """How often each resource is read back; what somebody else has changed is put right then."""
    dry_run: bool = False
    """Plan, read and log what would be written; nothing is written, reported or remembered."""
    cgroup: CgroupSettings = CgroupSettings()
    systemd: SystemdSettings = SystemdSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    onos: OnosSettings = OnosSettings()
    ovs: OvsSettings = OvsSettings()
    testbed: TestbedDriverSettings = TestbedDriverSettings()
