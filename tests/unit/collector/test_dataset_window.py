import re
from datetime import UTC, datetime, timedelta

import pytest

from microopt.errors import ConfigError
from microopt_collector.dataset.window import Window, window

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-30T08:00:00Z", datetime(2026, 1, 30, 8, tzinfo=UTC)),
        ("2026-01-30T08:00:00+02:00", datetime(2026, 1, 30, 6, tzinfo=UTC)),
        ("2026-01-30", datetime(2026, 1, 30, tzinfo=UTC)),
        ("-90s", NOW - timedelta(seconds=90)),
        ("-1.5h", NOW - timedelta(hours=1.5)),
        ("-7d", NOW - timedelta(days=7)),
        ("-2w", NOW - timedelta(weeks=2)),
    ],
)
def test_times_are_absolute_with_a_zone_or_relative_to_now(text, expected):
    assert window(text, "now", NOW) == Window(expected, NOW)


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("yesterday", "now", "--from 'yesterday': not a time"),
        ("-999999w", "now", "--from '-999999w': not a time"),
        ("24h", "now", "--from '24h': not a time"),
        ("2026-01-30T08:00:00", "now", "Write 2026-01-30T08:00:00Z for UTC"),
        ("-24h", "-24x", "--to '-24x': not a time"),
        ("-1h", "-2h", "not before --to -2h"),
        ("now", "now", "not before --to now"),
    ],
)
def test_what_is_no_window_is_refused_with_the_option_and_the_remedy(start, end, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        window(start, end, NOW)
