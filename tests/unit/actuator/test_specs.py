"""What a slice's specification cannot say about its times."""

import pytest

from microopt.specs import Bounds, Sla, SliceSpec


def spec(**times):
    return SliceSpec(
        slice="1",
        pool="edge",
        sla=Sla(qos_threshold=4.0, degradation_threshold=0.1),
        bounds={"gnb_cpu": Bounds(100.0, 4500.0)},
        model="embb",
        **times,
    )


def test_a_lead_may_be_as_long_as_the_interval_but_no_longer():
    assert spec(interval_s=60.0, lead_s=60.0).lead_s == 60.0
    with pytest.raises(ValueError, match=r"lead_s 60\.5 is longer than interval_s 60"):
        spec(interval_s=60.0, lead_s=60.5)
