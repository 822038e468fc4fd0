import pytest

from microopt.specs import Sla
from microopt_collector import guard
from microopt_collector.sources.base import Measurement, Rejected

SLA = Sla(qos_threshold=4.0, degradation_threshold=0.1)


def check(**values) -> None:
    measurement = Measurement(slice="1-000001", time_s=0.0, source="ran", **values)
    guard.check(measurement, SLA, max_users=100.0, unit_setting="qos_scale")


def test_what_a_slice_can_have_passes():
    check(users=100.0, qos=4000.0)
    check()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"qos": 4.5e6}, r"qos 4.5e\+06 Mbit/s .* 1000 times the SLA's threshold of 4 Mbit/s.* look at qos_scale"),
        ({"users": 4.5e6}, r"4.5e\+06 users .* more than max_users, 100"),
    ],
)
def test_what_is_in_another_unit_is_implausible_and_the_setting_named(values, text):
    with pytest.raises(Rejected, match=text) as caught:
        check(**values)
    assert caught.value.reason == "implausible"
