import re
from datetime import UTC, datetime, timedelta

import pytest

from microopt.cli.times import time_of
from microopt.errors import ConfigError

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("2026-01-30T08:00:00+02:00", datetime(2026, 1, 30, 6, tzinfo=UTC)),
        ("2026-01-30", datetime(2026, 1, 30, tzinfo=UTC)),
        ("-1.5h", NOW - timedelta(hours=1.5)),
    ],
)
def test_times_are_absolute_with_a_zone_or_relative_to_now(text, expected):
    assert time_of(text, NOW, "--from") == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("yesterday", "--from 'yesterday': not a time"),
        ("-999999w", "--from '-999999w': not a time"),
        ("2026-01-30T08:00:00", "Write 2026-01-30T08:00:00Z for UTC"),
    ],
)
def test_what_is_no_time_is_refused_with_the_option_and_examples(text, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        time_of(text, NOW, "--from")
