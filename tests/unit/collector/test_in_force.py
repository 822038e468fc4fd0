from datetime import UTC, datetime, timedelta

import pytest

from microopt.messages import Actuation
from microopt_collector.in_force import AllocationsInForce

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def actuation(
    at_s: float, observed: float | None, state: str = "verified", resource: str = "gnb_cpu"
) -> Actuation:
    return Actuation(
        slice="1-000001",
        resource=resource,
        epoch=1,
        state=state,
        requested=1000.0,
        observed=observed,
        driver="cgroup",
        at=T0 + timedelta(seconds=at_s),
    )


def before(noted: list[Actuation], end_s: float) -> dict[str, float]:
    in_force = AllocationsInForce()
    for report in noted:
        in_force.note(report)
    return in_force.before("1-000001", T0 + timedelta(seconds=end_s))


def test_a_slot_has_the_values_that_were_in_force_at_its_end():
    noted = [actuation(1, 1000.0), actuation(5, 2000.0), actuation(2, 20.0, resource="transport_bandwidth")]
    assert before(noted, 5) == {"gnb_cpu": 1000.0, "transport_bandwidth": 20.0}
    assert before(noted, 6) == {"gnb_cpu": 2000.0, "transport_bandwidth": 20.0}
    assert before(noted, 1) == {}


@pytest.mark.parametrize("observed", [None, 700.0])
def test_a_failure_that_says_what_is_there_instead_is_believed(observed):
    noted = [actuation(1, 1000.0), actuation(2, observed, "failed")]
    assert before(noted, 9) == {"gnb_cpu": 1000.0 if observed is None else 700.0}


@pytest.mark.parametrize("state", ["refused", "effective", "ineffective"])
def test_refusals_and_what_a_slice_uses_change_nothing(state):
    assert before([actuation(1, 1000.0), actuation(2, 2000.0, state)], 9) == {"gnb_cpu": 1000.0}


@pytest.mark.parametrize("state", ["effective", "ineffective"])
def test_a_value_whose_verification_nobody_heard_is_what_was_requested(state):
    assert before([actuation(1, 321.0, state)], 9) == {"gnb_cpu": 1000.0}


def test_a_value_that_was_not_read_back_is_unknown():
    noted = [actuation(1, 1000.0), actuation(2, None, "applied")]
    assert before(noted, 9) == {}
    assert before([*noted, actuation(3, 2000.0)], 9) == {"gnb_cpu": 2000.0}
