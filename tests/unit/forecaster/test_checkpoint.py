import msgspec
import numpy as np
import pytest

from microopt import codec
from microopt.errors import InvalidMessageError
from microopt_forecaster import checkpoint
from microopt_forecaster.checkpoint import Checkpoint
from microopt_forecaster.followed import FollowedSlice
from microopt_forecaster.settings import ForecasterSettings

SETTINGS = ForecasterSettings(models=("seasonal-naive", "ridge"))
SLOTS = 1500


@pytest.fixture
def spec(make_slice):
    return make_slice(slot_s=1.0, interval_s=12.0, season_s=120.0, lead_s=2.0)


@pytest.fixture
def users():
    rng = np.random.default_rng(5)
    return 20.0 + 10.0 * np.sin(2 * np.pi * np.arange(SLOTS + 240) / 120.0) + rng.normal(0.0, 1.0, SLOTS + 240)


def interval_at(followed, telemetry, slot):
    return followed.schedule.number(telemetry(slot).time.timestamp())


def live(followed, users, telemetry, begin, end):
    """Let slots pass, and forecast each interval two slots before it begins; return the forecasts."""
    said = {}
    for n in range(begin, end):
        followed.note(telemetry(n, users=float(users[n])), n + 1)
        if n % 12 == 9:
            at = interval_at(followed, telemetry, n + 3)
            said[at] = followed.expect(at, followed.snapshot())
    return said


def over_the_wire(state):
    return codec.decode(codec.encode(state), Checkpoint, origin="test")


@pytest.fixture
def running(spec, users, telemetry):
    followed = FollowedSlice(spec, SETTINGS)
    live(followed, users, telemetry, 0, SLOTS)
    return followed


def test_a_restart_changes_no_forecast(running, spec, users, telemetry):
    state = over_the_wire(checkpoint.take(running))
    restarted = FollowedSlice(spec, SETTINGS)
    checkpoint.restore(restarted, state)
    assert restarted.sequence == SLOTS
    ours, theirs = (live(f, users, telemetry, SLOTS, SLOTS + 240) for f in (running, restarted))
    assert [e.traffic for e in ours.values()] == [e.traffic for e in theirs.values()]
    assert [e.prediction.bands() for e in ours.values()] == [e.prediction.bands() for e in theirs.values()]


def test_a_replica_that_takes_over_makes_the_same_forecasts(running, spec, users, telemetry):
    other = FollowedSlice(spec, SETTINGS)
    for n in range(SLOTS):
        other.note(telemetry(n, users=float(users[n])), n + 1)
    checkpoint.restore_outlook(other, over_the_wire(checkpoint.take(running)))
    ours, theirs = (live(f, users, telemetry, SLOTS, SLOTS + 240) for f in (running, other))
    assert [e.traffic for e in ours.values()] == [e.traffic for e in theirs.values()]


def test_what_passed_since_the_checkpoint_is_made_up_for(running, spec, users, telemetry):
    state = over_the_wire(checkpoint.take(running))
    restarted = FollowedSlice(spec, SETTINGS)
    checkpoint.restore(restarted, state)
    ours = live(running, users, telemetry, SLOTS, SLOTS + 240)
    for n in range(SLOTS, SLOTS + 239):  # it sleeps through eight forecasts
        restarted.note(telemetry(n, users=float(users[n])), n + 1)
    at = interval_at(running, telemetry, SLOTS + 240)
    assert max(ours) == at
    assert restarted.expect(at, restarted.snapshot()).prediction.bands() == ours[at].prediction.bands()


def test_another_grid_keeps_the_traffic_and_learns_anew(running, spec):
    state = checkpoint.take(running)
    other = FollowedSlice(msgspec.structs.replace(spec, interval_s=6.0), SETTINGS)
    checkpoint.restore(other, state)
    assert len(other.history.steps().means.known) == SLOTS
    assert other.outlook.through is None


def test_other_models_keep_the_traffic_and_learn_anew(running, spec):
    other = FollowedSlice(spec, ForecasterSettings(models=("seasonal-naive",)))
    checkpoint.restore(other, checkpoint.take(running))
    assert len(other.history.steps().means.known) == SLOTS
    assert other.outlook.through is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("means", b"not deflated"), ("recent", None), ("actual", None), ("candidate_levels", None)],
)
def test_a_damaged_state_is_refused_and_changes_nothing(running, spec, field, value):
    state = checkpoint.take(running)
    value = getattr(state, "counts") if value is None else value  # noqa: B009
    fresh = FollowedSlice(spec, SETTINGS)
    with pytest.raises(InvalidMessageError):
        checkpoint.restore(fresh, msgspec.structs.replace(state, **{field: value}))
    assert (fresh.sequence, fresh.history.newest) == (0, None)


def test_an_array_that_inflates_without_end_is_cut_off(running, spec):
    import zlib

    bomb = zlib.compress(b"\0" * 50_000_000)
    with pytest.raises(InvalidMessageError, match="means"):
        checkpoint.restore(
            FollowedSlice(spec, SETTINGS), msgspec.structs.replace(checkpoint.take(running), means=bomb)
        )
