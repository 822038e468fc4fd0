import pytest

from microopt_forecaster.grid import Grid

T0 = 1_800_000_000.0


@pytest.mark.parametrize(
    ("slot_s", "interval_s", "steps"),
    [(60.0, 3600.0, 12), (600.0, 3600.0, 6), (0.1, 5.0, 10), (0.1, 0.5, 5), (3600.0, 3600.0, 1), (1.0, 7.0, 7)],
)
def test_an_interval_is_cut_into_as_many_steps_of_whole_slots_as_there_can_be(slot_s, interval_s, steps):
    grid = Grid(slot_s, interval_s, 86_400.0)
    assert grid.steps == steps
    assert grid.step_slots * steps == round(interval_s / slot_s)


def test_an_interval_that_is_no_whole_number_of_slots_is_one_step():
    grid = Grid(3.0, 10.0, 60.0)
    assert (grid.steps, grid.step_slots) == (1, 4)


def test_slots_are_placed_from_the_epoch_without_rounding_into_the_former_one():
    grid = Grid(0.1, 0.5, 5.0)
    places = [grid.place(T0 + n * 0.1) for n in range(1000)]
    first = round(T0 / 0.1)
    assert places == [divmod(first + n, 1) for n in range(1000)]
    assert [grid.interval(T0 + n * 0.1) for n in range(0, 1000, 5)] == [first // 5 + n for n in range(200)]


def test_a_duration_is_covered_by_whole_steps():
    grid = Grid(60.0, 3600.0, 86_400.0)
    assert [grid.steps_in(s) for s in (0.0, 1.0, 300.0, 301.0)] == [0, 1, 1, 2]


def test_a_season_is_a_number_of_intervals():
    assert Grid(60.0, 3600.0, 86_400.0).season == 24
    assert Grid(60.0, 3600.0, 60.0).season == 1
