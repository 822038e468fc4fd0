"""Whether telemetry shows a limit at work."""

import pytest

from microopt_actuator.effect import CONTRADICTIONS, Effect


def verdicts(effect: Effect, *usages: float) -> list[str | None]:
    found = []
    for usage in usages:
        effect.see(usage)
        found.append(effect.verdict)
    return found


@pytest.mark.parametrize(("before", "usage"), [(30.0, 20.0), (30.0, 0.0), (10.0, 15.0), (10.0, 3.0), (None, 19.0)])
def test_use_within_the_limit_is_the_limit_at_work(before, usage):
    assert verdicts(Effect(20.0, before), usage) == ["effective"]


def test_use_beyond_the_limit_is_said_after_a_few_slots_only():
    assert verdicts(Effect(20.0, 30.0), *[30.0] * CONTRADICTIONS) == [None, None, "ineffective"]


def test_a_slice_that_strains_at_its_former_limit_did_not_get_more():
    assert verdicts(Effect(20.0, 10.0), *[10.1] * CONTRADICTIONS)[-1] == "ineffective"


def test_a_limit_that_hardly_changed_can_not_be_told_from_the_former():
    assert verdicts(Effect(10.5, 10.0), 10.1) == ["effective"]


def test_one_slot_beyond_a_limit_that_works_changes_nothing():
    assert verdicts(Effect(20.0, 30.0), 19.0, 30.0, 19.0, 30.0, 30.0) == ["effective"] * 5


def test_a_limit_that_stops_working_is_said():
    effect = Effect(20.0, 30.0)
    assert verdicts(effect, 19.0, *[30.0] * CONTRADICTIONS)[-1] == "ineffective"
    assert effect.see(19.0)
    assert effect.verdict == "effective"
