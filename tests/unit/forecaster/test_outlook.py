import numpy as np
import pytest

from microopt_forecaster import models
from microopt_forecaster.calibration import bands
from microopt_forecaster.candidates import Candidates
from microopt_forecaster.outlook import Outlook
from microopt_forecaster.records import errors

NAMES = ("seasonal-naive", "ces", "ridge")
DAYS = 24


@pytest.fixture
def make_outlook(hours):
    def build(names=NAMES, fixed=None, gap=0):
        return Outlook(Candidates(models.make(names), hours, gap), hours.season, fixed)

    return build


def slots_of(steps):
    return lambda interval: steps.means.values[interval * 6 : interval * 6 + 6]


def fold(outlook, steps, last, stride=1):
    """Catch up step by step, as intervals pass."""
    for interval in range(stride - 1, last + 1, stride):
        outlook.catch_up(steps, slots_of(steps), interval)
    outlook.catch_up(steps, slots_of(steps), last)
    return outlook


def same(one, other):
    assert (one.model, one.realised[1][1]) == (other.model, other.realised[1][1])
    np.testing.assert_array_equal(one.slot, other.slot)
    np.testing.assert_array_equal(one.mean, other.mean)


def test_the_same_is_expected_however_the_past_was_walked_through(make_outlook, make_steps, daily):
    means = daily(DAYS)
    steps, last = make_steps(means), DAYS * 24 - 2
    whole = make_outlook()
    whole.catch_up(steps, slots_of(steps), 250)
    in_pieces = fold(make_outlook(), steps, 250, stride=7)
    known = make_steps(means[: (last + 1) * 6])  # what comes later must not matter
    whole.catch_up(known, slots_of(known), last)
    same(fold(in_pieces, steps, last).predict(known, last + 1), whole.predict(steps, last + 1))


@pytest.mark.parametrize("told", [3 * 144, (DAYS - 1) * 144 - 40, DAYS * 144 - 30])
def test_a_past_that_becomes_known_late_counts_as_if_it_had_been_known_in_time(
    make_outlook, make_steps, daily, told
):
    means, now = daily(DAYS), DAYS * 24
    part, steps = make_steps(means[:told]), make_steps(means)
    late, in_time = make_outlook(), make_outlook()
    late.catch_up(part, slots_of(part), told // 6 - 1)
    for interval in range(now - 3, now + 1):
        late.predict(part, interval)
    in_time.catch_up(steps, slots_of(steps), told // 6 - 1)
    for outlook in (late, in_time):
        outlook.catch_up(steps, slots_of(steps), now - 1)
    same(late.predict(steps, now), in_time.predict(steps, now))


def test_nothing_is_expected_of_less_than_two_intervals_to_learn_from(make_outlook, make_steps, daily):
    steps = make_steps(daily(1)[:18])
    outlook = make_outlook()
    outlook.catch_up(steps, slots_of(steps), 1)
    assert outlook.predict(steps, 2) is None
    outlook.catch_up(steps, slots_of(steps), 2)
    assert outlook.predict(steps, 3).model == "seasonal-naive"


def test_the_model_that_does_best_is_believed(make_outlook, make_steps, daily):
    steps = make_steps(daily(DAYS, memory=0.9))
    outlook = fold(make_outlook(names=("seasonal-naive", "ridge")), steps, DAYS * 24 - 1)
    naive, ridge = np.nanmean(errors(outlook.records, 2), axis=0)
    assert ridge < 0.8 * naive
    assert outlook.predict(steps, DAYS * 24).model == "ridge"


def test_a_named_model_is_believed_whatever_the_others_do(make_outlook, make_steps, daily):
    steps = make_steps(daily(DAYS))
    outlook = fold(make_outlook(fixed=0), steps, DAYS * 24 - 1)
    assert outlook.predict(steps, DAYS * 24).model == "seasonal-naive"


@pytest.mark.parametrize("gap", [0, 3])
def test_bands_hold_as_often_as_they_claim(make_outlook, make_steps, daily, gap):
    steps = make_steps(daily(35, noise=0.2))
    (slot, _), (mean, judged) = fold(make_outlook(gap=gap), steps, 35 * 24 - 1).predict(steps, 35 * 24).realised
    assert judged == 336
    np.testing.assert_allclose(slot, [0.8, 0.9, 0.95], atol=0.03)
    np.testing.assert_allclose(mean, [0.8, 0.9, 0.95], atol=0.03)


def test_after_an_outage_bands_are_wider_until_telemetry_is_back(make_outlook, make_steps, daily):
    means = daily(DAYS, noise=0.3, memory=0.95)
    until = (DAYS - 1) * 24
    steps, cut = make_steps(means), make_steps(means[: until * 6 - 36])
    outlook = fold(make_outlook(names=("seasonal-naive", "ridge"), fixed=1), steps, until - 1)
    usual, blind = outlook.predict(steps, until), outlook.predict(cut, until)
    assert np.ptp(np.log(blind.mean)) > 1.1 * np.ptp(np.log(usual.mean))


def test_after_a_level_shift_bands_hold_again_within_a_day(make_outlook, make_steps, daily):
    means = daily(DAYS)
    means[20 * 144 :] *= 3.0
    steps = make_steps(means)
    outlook = fold(make_outlook(), steps, 21 * 24 - 1)
    held = []
    for interval in range(21 * 24, 23 * 24):
        _, upper = bands(outlook.predict(steps, interval).mean)[1]
        held.append(means[interval * 6 :][:6].mean() <= upper)
        outlook.catch_up(steps, slots_of(steps), interval)
    assert np.mean(held) > 0.85


def test_a_slice_without_users_is_expected_to_have_none(make_outlook, make_steps):
    steps = make_steps(np.zeros(DAYS * 144))
    found = fold(make_outlook(), steps, DAYS * 24 - 1).predict(steps, DAYS * 24)
    assert found.traffic().mean < 0.01
    assert found.slot.min() == 0.0


def test_the_first_users_after_silence_burst_no_forecast(make_outlook, make_steps):
    means = np.zeros(DAYS * 144)
    means[-7:] = 50.0
    steps = make_steps(means)
    found = fold(make_outlook(), steps, DAYS * 24 - 1).predict(steps, DAYS * 24)
    assert np.isfinite(found.slot).all()
    assert found.slot.max() <= 10.0 * 50.1


def test_intervals_that_nobody_measured_teach_nothing(make_outlook, make_steps, daily):
    means = daily(DAYS)
    means[10 * 144 : 12 * 144] = np.nan
    outlook = fold(make_outlook(), make_steps(means), DAYS * 24 - 1)
    assert not {record.interval for record in outlook.records} & set(range(10 * 24, 12 * 24))
    assert outlook.through == DAYS * 24 - 1


def test_models_that_do_as_well_are_named_together(make_outlook, make_steps, daily):
    steps = make_steps(np.tile(daily(1, noise=0.0), DAYS))
    found = fold(make_outlook(names=("seasonal-naive", "ridge")), steps, DAYS * 24 - 1).predict(steps, DAYS * 24)
    assert set(found.model.split("+")) <= {"seasonal-naive", "ridge"}
    assert found.median == pytest.approx(steps.means.values[-144:-138].mean(), rel=0.02)
