import math
from datetime import UTC, datetime
from statistics import NormalDist

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from microopt.messages import Assurance, Interval
from microopt.specs import Bounds, Margin, MarginLevel, Sla, SliceSpec
from microopt_optimizer.auditor.margin import DEFAULT, guaranteed, updated

START = datetime(2026, 1, 1, tzinfo=UTC)
BETA = 0.1
SPEC = SliceSpec(
    slice="1-000001",
    pool="cell-site",
    sla=Sla(qos_threshold=4.0, degradation_threshold=BETA),
    bounds={"gnb_cpu": Bounds(500.0, 4500.0)},
    model="embb",
    slot_s=1.0,
    qos_margin=0.0,
)
STRICTEST = BETA / DEFAULT.tighten_at_most
FEW = settings(max_examples=200, deadline=None, derandomize=True)


def assurance(realised, expected=BETA, *, slots=3600, users=2.0, beta=BETA, **changed):
    return Assurance(
        **{
            "slice": SPEC.slice,
            "pool": SPEC.pool,
            "interval": Interval(START, 3600.0),
            "epoch": 1,
            "optimizer": "microopt",
            "status": "FULFILLED" if realised is not None and realised <= beta else "NOT_FULFILLED",
            "degradation_threshold": beta,
            "cost": 1.0,
            "at": START,
            "expected_degradation": expected,
            "realised": realised,
            "users_slots": users * slots,
            "slots": 3600,
            "known_slots": slots,
            **changed,
        }
    )


def after(outcomes, former=None, spec=SPEC, setting=DEFAULT):
    for outcome in outcomes:
        former = updated(former, spec, outcome, setting) or former
    return former


def test_a_bad_interval_is_believed_at_once():
    margin = after([assurance(0.6)])
    assert margin.qos_margin > 0.03
    assert margin.degradation_threshold < 0.7 * BETA


def test_the_first_margin_starts_at_the_slices_own_qos_margin():
    assert after([assurance(0.1)], spec=replace(SPEC, qos_margin=0.15)).qos_margin == pytest.approx(0.15)


def test_reality_better_than_promised_makes_it_cheaper_slowly_and_within_bounds():
    one, many = after([assurance(0.01)]), after([assurance(0.01)] * 400)
    assert -0.02 < one.qos_margin < 0.0
    assert many.qos_margin == DEFAULT.qos_at_least
    assert BETA < many.degradation_threshold <= DEFAULT.relax_at_most * BETA


def test_what_is_promised_and_kept_changes_next_to_nothing():
    margin = after([assurance(0.098, expected=0.1)] * 100)
    assert abs(margin.qos_margin) < 0.02
    assert 0.9 * BETA < margin.degradation_threshold <= BETA * 1.05


@pytest.mark.parametrize(
    "nothing",
    [
        assurance(None, status="UNKNOWN"),
        assurance(0.5, status="UNKNOWN"),
        assurance(0.0, users=0.0),
        assurance(0.5, slots=0, users_slots=50.0),
    ],
)
def test_gaps_and_intervals_without_users_teach_nothing(nothing):
    assert updated(after([assurance(0.3)]), SPEC, nothing) is None
    assert updated(None, SPEC, nothing) is None


def test_few_users_teach_little():
    busy, quiet = after([assurance(0.6)]), after([assurance(0.6, slots=5)])
    first = DEFAULT.offset_at_first
    assert quiet.offset - first < 0.2 * (busy.offset - first)
    assert quiet.qos_margin < 0.2 * busy.qos_margin


def test_many_users_in_few_slots_are_few_facts():
    many, one = (after([assurance(0.6, slots=3, users=users)]) for users in (1000.0, 1.0))
    assert replace(many, levels=()) == replace(one, levels=())


def test_without_the_slice_models_word_only_the_offset_learns():
    margin = after([assurance(0.6, expected=None)])
    assert margin.bias == 0.0
    assert margin.qos_margin == 0.0
    assert margin.offset > DEFAULT.offset_at_first


def test_what_the_slice_model_did_not_promise_is_no_reason_to_ask_for_more():
    margin = after([assurance(0.5, expected=0.5)] * 50)
    assert margin.offset == DEFAULT.offset_at_first
    assert abs(margin.qos_margin) < 0.01
    assert margin.missed == 1.0


def test_a_target_that_cannot_be_held_is_no_promise_even_if_the_sla_is():
    tightened = assurance(0.2, expected=0.05, asked_threshold=0.02)
    assert after([tightened] * 50).offset == DEFAULT.offset_at_first


def test_a_relaxed_target_is_still_a_promise():
    relaxed = assurance(0.2, expected=0.14, asked_threshold=0.14)
    assert after([relaxed]).offset > DEFAULT.offset_at_first


def test_the_record_counts_what_was_judged():
    margin = after([assurance(0.2), assurance(0.05), assurance(None, status="UNKNOWN"), assurance(0.05)])
    assert (margin.judged, margin.missed) == (3, pytest.approx(1 / 3))
    assert margin.at == START


def test_at_its_most_the_offset_asks_for_the_strictest():
    margin = after([assurance(0.2, expected=None)] * 30)
    assert margin.offset >= DEFAULT.offset_at_most
    assert (margin.degradation_threshold, margin.qos_margin) == (STRICTEST, DEFAULT.qos_at_most)


def test_the_strictest_is_left_again():
    strict = after([assurance(0.2, expected=None)] * 30)
    margin = after([assurance(0.0, expected=STRICTEST)] * 600, strict)
    assert margin.degradation_threshold > 0.5 * BETA
    assert margin.qos_margin < DEFAULT.qos_at_most


def test_longer_intervals_need_less_margin():
    long = after([assurance(0.1)])
    short = after([assurance(0.1, slots=60)], spec=replace(SPEC, slot_s=60.0))
    assert short.degradation_threshold < 0.6 * BETA < 0.9 * BETA < long.degradation_threshold


def test_what_few_users_teach_holds_for_many_until_these_have_taught_otherwise():
    few = after([assurance(0.6, users=1.0)])
    assert few.qos_margin_at(5.0) == few.qos_margin_at(1.0) == few.qos_margin > 0.03
    kept = [assurance(0.0999, users=5.0)] * 20
    apart = after([assurance(0.6, users=1.0)], after(kept, few))
    assert apart.qos_margin_at(1.0) > few.qos_margin_at(1.0) + 0.02
    assert apart.qos_margin_at(5.0) == pytest.approx(after(kept, few).qos_margin_at(5.0), abs=0.005)


def test_each_load_gets_the_margin_that_its_own_bias_needs():
    """The model promises what is asked for; reality has a QoS of 20 % less with 1 user, and as promised with 4."""
    margin = None
    for _ in range(60):
        for users, missing in ((1.0, 0.2), (4.0, 0.0)):
            has, asked = (margin.qos_margin_at(users), margin.degradation_threshold) if margin else (0.0, BETA)
            deviations = (missing - has) / DEFAULT.qos_a_deviation
            realised = NormalDist().cdf(NormalDist().inv_cdf(asked) + deviations)
            margin = updated(margin, SPEC, assurance(realised, asked, users=users))
    assert margin.qos_margin_at(1.0) == pytest.approx(0.2, abs=0.03)
    assert margin.qos_margin_at(4.0) == pytest.approx(0.0, abs=0.03)


def test_without_levels_all_loads_have_one_margin():
    margin = after(
        [assurance(0.6, users=1.0), assurance(0.01, users=5.0)] * 5, setting=replace(DEFAULT, levels=False)
    )
    assert margin.levels == ()
    assert margin.qos_margin_at(1.0) == margin.qos_margin_at(5.0) == margin.qos_margin


def test_the_strictest_is_asked_for_at_every_load():
    known = after([assurance(0.1, users=1.0), assurance(0.01, users=5.0)] * 20)
    margin = after([assurance(0.2, expected=None, users=2.0)] * 30, known)
    assert {margin.qos_margin_at(users) for users in (0.0, 1.0, 2.0, 5.0)} == {DEFAULT.qos_at_most}


ratios = st.floats(0.0, 1.0)
numbers = st.floats(allow_nan=False, allow_infinity=False)


@FEW
@given(
    former=st.none()
    | st.builds(
        Margin,
        slice=st.just(SPEC.slice),
        degradation_threshold=st.floats(1e-9, 1.0, exclude_max=True),
        qos_margin=st.none() | st.floats(-0.99, 0.99),
        bias=numbers,
        offset=numbers,
        judged=st.integers(0, 10**6),
        missed=ratios,
        levels=st.lists(
            st.builds(
                MarginLevel,
                half_octave=st.integers(-40, 80),
                qos_margin=st.floats(-0.99, 0.99),
                seen=st.floats(0.0, 1e9),
            ),
            max_size=5,
        ).map(tuple),
    ),
    beta=st.floats(1e-6, 0.999),
    realised=ratios,
    expected=st.none() | ratios,
    slots=st.integers(0, 10**12),
    users=st.floats(0.0, 1.0),
    qos_margin=st.floats(0.0, 0.99),
)
def test_whatever_comes_the_margin_is_valid_and_within_its_bounds(
    former, beta, realised, expected, slots, users, qos_margin
):
    spec = replace(SPEC, sla=replace(SPEC.sla, degradation_threshold=beta), qos_margin=qos_margin)
    margin = updated(former, spec, assurance(realised, expected, slots=slots, users=users, beta=beta))
    if margin is None:
        assert slots * users == 0.0
        return
    loosest = max(beta, min(DEFAULT.relax_at_most * beta, 0.5))
    assert beta / DEFAULT.tighten_at_most <= margin.degradation_threshold <= loosest
    assert DEFAULT.qos_at_least <= margin.qos_margin <= max(DEFAULT.qos_at_most, qos_margin)
    assert all(
        DEFAULT.qos_at_least <= margin.qos_margin_at(load) <= max(DEFAULT.qos_at_most, qos_margin) + 1e-12
        for load in (0.0, users, 1.0, 1e12)
    )
    assert math.isfinite(margin.bias)
    assert msgspec.json.decode(msgspec.json.encode(margin), type=Margin) == margin


@st.composite
def adversaries(draw):
    """Outcomes with any number of users, chosen by one who sees the margin that was asked for."""
    return draw(st.lists(st.tuples(st.booleans(), ratios, st.integers(1, 4000)), min_size=1, max_size=200))


@FEW
@given(
    adversaries(),
    st.integers(0, 1),
    st.floats(0.01, 0.3),
    st.floats(0.05, 2.0),
    st.sampled_from(["as drawn", "misses whenever it counts", "misses while the offset is low"]),
)
def test_the_share_of_missed_intervals_keeps_the_guarantee(outcomes, late, alpha, step, kind):
    chosen = replace(DEFAULT, unfulfilled_at_most=alpha, step=step)
    history, weights, missed = [None] * (late + 1), 0.0, 0.0
    for drawn, realised, slots in outcomes:
        asked, weight = history[-1 - late], slots / (slots + 30)
        offset = asked.offset if asked else chosen.offset_at_first
        counts = offset < chosen.offset_at_most
        misses = {"as drawn": drawn, "misses whenever it counts": counts}.get(kind, offset < 3.0)
        target = asked.degradation_threshold if asked else BETA
        outcome = assurance(0.2 + 0.8 * realised if misses else BETA * realised, min(target, BETA), slots=slots)
        history.append(updated(history[-1], SPEC, outcome, chosen))
        weights += weight
        missed += weight * (misses and counts)
    assert missed / weights <= guaranteed(weights, chosen, late) + 1e-9


def test_nothing_is_guaranteed_of_intervals_that_do_not_count():
    assert guaranteed(0.0) == guaranteed(1e-9) == 1.0


def test_the_guarantee_is_tight():
    """An adversary who misses until the strictest is asked for comes close to what the bound allows."""
    history, missed = [None, None], 0
    for _ in range(1000):
        asked = history[-2]
        misses = not asked or asked.offset < DEFAULT.offset_at_most
        history.append(updated(history[-1], SPEC, assurance(0.2 if misses else 0.0, expected=None)))
        missed += misses
    weight = 1000 * 3600 / 3630
    assert 0.95 * guaranteed(weight) <= missed / 1000 <= guaranteed(weight) + 1e-3
