from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from microopt.errors import ConfigError
from microopt_forecaster.day_types import SATURDAY, SUNDAY, WORKDAY, DayTypes
from microopt_forecaster.models.ridge import ALIKE, Ridge, _alike


def at(*when, zone=UTC):
    return datetime(*when, tzinfo=zone).timestamp()


def test_days_are_those_of_the_time_zone():
    rome = DayTypes("Europe/Rome")
    assert rome.at(at(2026, 1, 2, 22, 59)) == WORKDAY  # a Friday
    assert rome.at(at(2026, 1, 2, 23, 0)) == SATURDAY
    assert rome.at(at(2026, 1, 4, 0, 0, zone=ZoneInfo("Europe/Rome"))) == SUNDAY


def test_holidays_are_like_sundays_where_they_are_kept():
    when = at(2026, 12, 7, 12)  # a Monday, Sant'Ambrogio
    assert DayTypes("Europe/Rome", "IT-MI").at(when) == SUNDAY
    assert DayTypes("Europe/Rome", "IT").at(when) == WORKDAY
    assert DayTypes("Europe/Rome", "IT").at(at(2026, 12, 8, 12)) == SUNDAY


@pytest.mark.parametrize("zone", ["Europe/Romulus", "../etc/passwd", "/etc/localtime"])
def test_an_unknown_zone_is_refused(zone):
    with pytest.raises(ConfigError, match="timezone"):
        DayTypes(zone)


@pytest.mark.parametrize("country", ["XX", "IT-QQ"])
def test_an_unknown_country_is_refused(country):
    with pytest.raises(ConfigError, match=f"holidays '{country}'"):
        DayTypes("UTC", country)


def test_a_holiday_looks_back_to_sundays_and_a_workday_past_it(hours):
    days = DayTypes("UTC", "IT")
    holiday, after = (round(at(2026, 12, day, 10) / 3600) for day in (8, 9))  # a Tuesday and a Wednesday
    back = _alike(hours, days, np.array([holiday, after]), 0)
    assert back.tolist() == [[2, 9, 16, 23], [2, 5, 6, 7]]


def test_what_is_not_known_yet_is_not_looked_back_to(hours):
    workday = round(at(2026, 3, 12, 10) / 3600)
    assert _alike(hours, DayTypes(), np.array([workday]), 6 * 24)[0, 0] > 1
    assert _alike(hours, DayTypes(), np.array([workday]), 6 * 23)[0, 0] == 1


def test_a_type_without_a_past_stands_in_for_yesterday(hours):
    first_holiday = round(at(2026, 1, 6, 10) / 3600)
    back = _alike(hours, _OnlyOnce(first_holiday * 3600.0), np.array([first_holiday]), 0)
    assert back.tolist() == [[1] * ALIKE]


class _OnlyOnce(DayTypes):
    """A type of day that was never there before."""

    def __init__(self, when_s):
        super().__init__()
        self._when_s = when_s

    def at(self, time_s):
        return 7 if time_s == self._when_s else super().at(time_s)


def test_weekends_that_differ_are_expected_a_day_ahead(make_steps, daily):
    steps = make_steps(daily(35, noise=0.05), offset=5.0)
    gap, at_day = (
        23 * 6,
        np.arange(28 * 24, 35 * 24),
    )  # days 33 and 34 are the weekend; the epoch's day 0 was a Thursday
    actual = steps.levels(at_day)
    shift = _Shifted()  # day 5 of `daily` is its Saturday
    plain, typed = (
        float(np.abs(model.fit(steps.before(28 * 144 - gap), gap).levels(steps, at_day) - actual).mean())
        for model in (Ridge(), Ridge("ridge-days", shift))
    )
    assert typed < 1.05 * plain


class _Shifted(DayTypes):
    """Types by the number of the day since the epoch, as the fixture's weeks have them."""

    def at(self, time_s):
        return {5: SATURDAY, 6: SUNDAY}.get(int(time_s // 86_400.0) % 7, WORKDAY)
