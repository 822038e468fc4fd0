from datetime import timedelta

import pytest
from msgspec.structs import replace

from microopt.messages import Band, Forecast, Interval, Traffic
from microopt_forecaster.show.notes import LeftOut, notes
from microopt_forecaster.show.observed import Observed
from microopt_forecaster.show.rows import is_another, rows, summarize

HOUR = timedelta(hours=1)


@pytest.fixture
def observed(make_slice):
    return Observed(make_slice(interval_s=3600.0, slot_s=600.0))


@pytest.fixture
def tell(observed, telemetry):
    """Take slots of the hour `hour` after the first, one for each of `users`."""
    zero = telemetry().time

    def take(hour, *users, slot_s=600.0):
        for place, count in enumerate(users):
            time = zero + hour * HOUR + place * timedelta(seconds=slot_s)
            observed.note(telemetry(time=time, slot_s=slot_s, users=count))

    return take


@pytest.fixture
def shown(observed, telemetry):
    """Return the rows of the first `hours` hours as they look `minutes` after the first began."""
    zero = telemetry().time

    def build(forecasts=(), *, hours=1, minutes=10_000.0):
        first = observed.schedule.number(zero.timestamp())
        by_number = {observed.schedule.number(f.interval.start.timestamp()): f for f in forecasts}
        return rows(range(first, first + hours), by_number, observed, zero + timedelta(minutes=minutes))

    return build


@pytest.fixture
def forecast(telemetry):
    """Build the forecast of the hour `hour`, with a 90 % band from 8 to 12 users."""
    zero = telemetry().time

    def build(hour=0, users=10.0, *, lower=8.0, upper=12.0, realised=0.9, judged=336, **changes):
        band = Band(of="interval", coverage=0.9, lower=lower, upper=upper, realised=realised, judged=judged)
        fields = {
            "slice": "1-000001",
            "interval": Interval(zero + hour * HOUR, 3600.0),
            "traffic": Traffic((users,), (1.0,)),
            "model": "ridge",
            "made_at": zero + (hour - 1) * HOUR,
            "bands": (replace(band, of="slot", lower=0.0, upper=99.0), band),
        }
        return Forecast(**{**fields, **changes})

    return build


def test_an_interval_is_the_mean_of_its_known_slots(tell, shown):
    tell(0, 1.0, None, 3.0, 8.0)
    assert (shown()[0].observed, shown()[0].known_slots) == (4.0, 3)


def test_an_interval_with_less_than_half_of_its_slots_known_is_unknown(tell, shown, forecast):
    tell(0, 1.0, 3.0, None, None, None, None)
    row = shown([forecast()])[0]
    assert (row.observed, row.known_slots, row.outcome, row.error) == (None, 2, None, None)


def test_the_latest_word_on_a_slot_counts_and_missing_takes_nothing_back(tell, shown):
    tell(0, 1.0, 1.0, 1.0)
    tell(0, 4.0, None)
    assert shown()[0].observed == 2.0


def test_slots_of_another_length_are_counted_and_left_out(tell, shown, observed):
    tell(0, *[9.0] * 60, slot_s=60.0)
    assert (shown()[0].observed, observed.other_slots) == (None, 60)


@pytest.mark.parametrize(
    ("users", "outcome"), [(7.9, "below"), (8.0, "inside"), (12.0, "inside"), (12.1, "above")]
)
def test_an_observation_is_judged_by_the_band_of_the_intervals_mean(tell, shown, forecast, users, outcome):
    tell(0, *[users] * 6)
    assert shown([forecast()])[0].outcome == outcome


def test_flat_traffic_is_inside_a_band_without_width(tell, shown, forecast):
    tell(0, *[0.1] * 6)
    assert shown([forecast(users=0.1, lower=0.1 + 1e-15, upper=0.1 + 1e-15)])[0].outcome == "inside"


def test_an_interval_that_runs_shows_what_came_so_far_and_is_not_judged(tell, shown, forecast):
    tell(0, 99.0)
    row = shown([forecast()], minutes=15)[0]
    assert (row.state, row.observed, row.outcome, row.error) == ("running", 99.0, None, None)


def test_an_interval_is_over_when_its_last_slot_was_told_or_two_slots_later(tell, shown):
    tell(0, *[1.0] * 5)
    assert [shown(minutes=minutes)[0].state for minutes in (59, 61, 79, 80)] == ["running"] * 3 + ["over"]
    tell(0, *[1.0] * 6)
    assert shown(minutes=60)[0].state == "over"


def test_an_interval_to_come_has_a_forecast_only(shown, forecast):
    row = shown([forecast()], minutes=-1)[0]
    assert (row.state, row.observed, row.expected, row.outcome) == ("coming", None, 10.0, None)


def test_rows_begin_with_the_first_that_anything_is_known_of(tell, shown, forecast, telemetry):
    tell(2, 5.0)
    assert [row.start for row in shown([forecast(4)], hours=5)] == [telemetry().time + n * HOUR for n in (2, 3, 4)]


def test_the_summary_counts_only_what_was_expected_and_came(tell, shown, forecast):
    tell(0, *[11.0] * 6)
    tell(1, *[15.0] * 6)
    tell(2, *[50.0] * 6)
    found = summarize(shown([forecast(0), forecast(1), forecast(3)], hours=4))
    assert (found.judged, found.inside) == (2, 1)
    assert found.mean_absolute_error == pytest.approx(3.0)
    assert found.relative_error == pytest.approx(6.0 / 26.0)


def test_a_summary_of_nothing_has_no_errors(shown, forecast):
    found = summarize(shown([forecast()]))
    assert (found.judged, found.mean_absolute_error, found.relative_error) == (0, None, None)


def test_errors_are_relative_to_nothing_where_nobody_came(tell, shown, forecast):
    tell(0, *[0.0] * 6)
    assert summarize(shown([forecast()])).relative_error is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"realised": 0.9}, []),
        ({"realised": 0.87}, []),
        ({"realised": 0.8}, ["bands are too narrow: 90 % claimed, 80.0 % held"]),
        ({"realised": 0.99}, ["bands are too wide: 90 % claimed, 99.0 % held"]),
        ({"realised": 0.5, "judged": 8}, ["only 8 intervals were judged yet: how often bands held says little"]),
        ({"realised": None, "judged": 0}, ["only 0 intervals were judged yet: how often bands held says little"]),
        ({"bands": ()}, ["its forecasts claim no 90 % band of an interval's mean"]),
    ],
)
def test_coverage_that_is_not_as_claimed_is_said(forecast, telemetry, changes, said):
    assert list(notes(forecast(**changes), [], LeftOut(0, 0, 0), telemetry().time)) == said


def test_what_is_old_missing_or_left_out_is_said(shown, forecast, telemetry):
    newest = forecast()
    found = notes(newest, shown([newest]), LeftOut(1, 2, 3), telemetry().time + 4 * HOUR)
    assert [note.rpartition(": ")[0] for note in found[:2]] == [
        "the newest forecast is of an interval that ended 3 h ago",
        "no telemetry tells users in these intervals",
    ]
    assert [note.rpartition(": ")[2] for note in found[2:]] == ["stored messages, 1", "intervals, 2", "slots, 3"]


def test_a_mixture_is_another_only_if_it_shares_no_model_with_the_former():
    assert is_another("ces", "ridge")
    assert not is_another("ces+ridge", "ridge")
    assert not is_another("ridge", "ces+ridge")
