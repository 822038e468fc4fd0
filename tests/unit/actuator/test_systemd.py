import math

import pytest

from microopt.errors import ConfigError, PermanentError, TemporaryError
from microopt_actuator.drivers.cgroup import CgroupCpu
from microopt_actuator.drivers.systemd import SystemdDriver, quota_of
from microopt_actuator.drivers.systemd_bus import SystemdBus, refusal

ERROR = "org.freedesktop.DBus.Error"
SYSTEMD = "org.freedesktop.systemd1"


@pytest.mark.parametrize(
    ("millicores", "quota_us"),
    [
        (2000, 2_000_000),
        (1500.0, 1_500_000),
        (1501, 1_510_000),
        (1509.999, 1_510_000),
        (333.3, 340_000),
        (10, 10_000),
        (0.001, 10_000),
        (1e-12, 10_000),
        (0.1 * 3 * 1000, 300_000),  # 300.00000000000006
        (1.1 * 1100, 1_210_000),  # 1210.0000000000002
        (1e9, 1_000_000_000_000),
    ],
)
def test_a_quota_is_rounded_up_to_whole_percents_of_a_core_and_never_to_none(millicores: float, quota_us: int):
    assert quota_of("srsran-gnb.service", millicores) == quota_us


@pytest.mark.parametrize("millicores", [0, -0.0, -1, 1.01e9, math.inf, -math.inf, math.nan])
def test_what_is_no_limit_is_refused(millicores: float):
    with pytest.raises(PermanentError, match=r"systemd unit upf\.service: \S+ millicores is not a CPU limit"):
        quota_of("upf.service", millicores)


@pytest.mark.parametrize(
    "target",
    [
        "srsran-gnb.service",
        "gnb@1.service",
        "kubepods-besteffort-pod12_3.slice",
        "cri-containerd-0a1b.scope",
        r"system-gnb\x2dcu.slice",
        "a:b.service",
    ],
)
def test_services_scopes_and_slices_can_be_limited(target: str):
    assert quota_of(target, 1000) == 1_000_000


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("", "no unit that has a CPU limit"),
        ("srsran-gnb", "write a name that ends in .service"),
        ("gnb.socket", "no unit that has a CPU limit"),
        ("gnb.timer", "no unit that has a CPU limit"),
        (".service", "no unit that has a CPU limit"),
        ("gnb.service\n", "no unit that has a CPU limit"),
        ("gnb cu.service", "no unit that has a CPU limit"),
        ("/system.slice/gnb.service", "no unit that has a CPU limit"),
        ("gnb*.service", "no unit that has a CPU limit"),
        ("gnö.service", "no unit that has a CPU limit"),
        (f"{'a' * 250}.service", "no unit that has a CPU limit"),
        ("-.slice", "is the root, which has no CPU limit; name a slice below it"),
        ("gnb@.service", "is a template.*name an instance, such as gnb@1.service"),
    ],
)
def test_a_target_that_is_no_unit_with_a_limit_is_refused(target: str, why: str):
    with pytest.raises(PermanentError, match=why):
        quota_of(target, 1000)


@pytest.mark.parametrize("period_us", [0, -1, 999, 1_000_001])
def test_a_period_that_the_kernel_does_not_take_is_a_configuration_error(period_us: int):
    with pytest.raises(ConfigError, match=rf"period_us {period_us}: choose 1000 to 1000000"):
        SystemdDriver(SystemdBus(None, 1.0), CgroupCpu(), period_us)


@pytest.mark.parametrize(
    ("name", "kind", "remedy"),
    [
        (f"{SYSTEMD}.NoSuchUnit", TemporaryError, "when the unit is started"),
        (f"{ERROR}.UnknownObject", TemporaryError, "when the unit is started"),
        (f"{ERROR}.ServiceUnknown", TemporaryError, "is systemd running, and on this bus"),
        (f"{ERROR}.NameHasNoOwner", TemporaryError, "is systemd running, and on this bus"),
        (f"{ERROR}.NoReply", TemporaryError, "NoReply"),
        (f"{ERROR}.LimitsExceeded", TemporaryError, "LimitsExceeded"),
        ("System.Error.ENOSPC", TemporaryError, "ENOSPC"),
        ("", TemporaryError, "."),
        (f"{ERROR}.AccessDenied", PermanentError, "manage-units by a polkit rule"),
        (f"{ERROR}.AuthFailed", PermanentError, "manage-units by a polkit rule"),
        (f"{ERROR}.InteractiveAuthorizationRequired", PermanentError, "manage-units by a polkit rule"),
        (f"{SYSTEMD}.UnitMasked", PermanentError, "mend or unmask its unit file"),
        (f"{SYSTEMD}.LoadFailed", PermanentError, "mend or unmask its unit file"),
        (f"{SYSTEMD}.BadUnitSetting", PermanentError, "mend or unmask its unit file"),
        (f"{ERROR}.PropertyReadOnly", PermanentError, "older than 242"),
        (f"{ERROR}.UnknownProperty", PermanentError, "older than 242"),
        ("System.Error.ENXIO", PermanentError, "older than 242"),
    ],
)
def test_an_error_of_systemd_is_temporary_only_if_the_same_may_succeed_later(name: str, kind: type, remedy: str):
    error = refusal(name, "it said so", "systemd unit gnb.service: Get")
    assert type(error) is kind
    assert str(error).startswith("systemd unit gnb.service: Get: it said so")
    assert remedy in str(error)


def test_an_error_without_text_is_told_by_its_name():
    assert f"{ERROR}.Disconnected" in str(refusal(f"{ERROR}.Disconnected", "", "systemd unit gnb.service: Get"))
