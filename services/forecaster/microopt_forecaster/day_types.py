"""Days that are alike: workdays, Saturdays, and Sundays with the holidays of a country."""

from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import holidays

from microopt.errors import ConfigError

WORKDAY: Final = 0
SATURDAY: Final = 1
SUNDAY: Final = 2
DAY_S: Final = 86_400.0


class DayTypes:
    """The type of a moment's day in a `timezone`, with the holidays of a `country` such as `IT` or `IT-MI`.

    An empty country has none.

    Raises:
        ConfigError: there is no such zone or country.
    """

    def __init__(self, timezone: str = "UTC", country: str = "") -> None:
        try:
            self._zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ConfigError(f"timezone {timezone!r}: give one of the IANA database, as 'Europe/Rome'") from error
        self._holidays = _holidays(country)
        self._of_date = lru_cache(maxsize=1024)(self._type)

    def at(self, time_s: float) -> int:
        """Return the type of the day that holds `time_s`, in seconds since the Unix epoch."""
        return self._of_date(datetime.fromtimestamp(time_s, UTC).astimezone(self._zone).date())

    def _type(self, day: date) -> int:
        if self._holidays is not None and day in self._holidays:
            return SUNDAY
        return {5: SATURDAY, 6: SUNDAY}.get(day.weekday(), WORKDAY)


def _holidays(country: str) -> holidays.HolidayBase | None:
    if not country:
        return None
    code, _, part = country.partition("-")
    try:
        return holidays.country_holidays(code, subdiv=part or None)
    except NotImplementedError as error:
        raise ConfigError(f"holidays {country!r}: give an ISO 3166 code, as 'IT' or 'IT-MI' ({error})") from error
