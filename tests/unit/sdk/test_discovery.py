"""What is made of the replies of services, well-behaved or not."""

import json
from datetime import UTC, datetime, timedelta

from microopt.cli.optimizers import Report, Unserved, table
from microopt.discovery import Served, found

INFO = {
    "type": "io.nats.micro.v1.info_response",
    "name": "headroom",
    "id": "AB12",
    "version": "2.0.1",
    "metadata": None,
    "endpoints": [
        {"name": "a", "subject": "microopt.optimize.headroom", "metadata": {"algorithm": "rule"}},
        {"name": "b", "subject": "elsewhere.optimize.x", "queue_group": "q", "metadata": None},
    ],
}  # fmt: skip
STATS = {
    "name": "headroom",
    "id": "AB12",
    "version": "2.0.1",
    "endpoints": [
        {
            "subject": "microopt.optimize.headroom", "num_requests": 4, "num_errors": 1,
            "average_processing_time": 2_500_000, "last_error": "500:broken",
        }
    ],
}  # fmt: skip
BAD = [
    b"",
    b"junk",
    b"[]",
    b'{"id": 3, "name": "x"}',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"id":"a","name":"b","endpoints":7}',
]


def encoded(*replies) -> list[bytes]:
    return [json.dumps(reply).encode() for reply in replies]


def test_an_endpoint_on_an_optimizers_subject_is_one_with_its_statistics():
    assert found(encoded(INFO), encoded(STATS)).served == [
        Served(
            optimizer="headroom", service="headroom", id="AB12", version="2.0.1", algorithm="rule",
            requests=4, errors=1, mean_ms=2.5, last_error="500:broken",
        )
    ]  # fmt: skip


def test_what_a_worker_does_not_tell_is_unknown_and_no_number():
    [one] = found(encoded(INFO), []).served
    assert (one.requests, one.errors, one.mean_ms, one.last_error) == (None, None, None, "")
    idle = {**STATS, "endpoints": [{**STATS["endpoints"][0], "num_requests": 0, "average_processing_time": 0}]}
    [one] = found(encoded(INFO), encoded(idle)).served
    assert (one.requests, one.mean_ms) == (0, None)


def test_malformed_replies_are_counted_and_hide_nobody():
    got = found([*BAD, *encoded(INFO)], [*encoded(STATS), *BAD])
    assert [one.requests for one in got.served] == [4]
    assert got.malformed == 2 * len(BAD)


def test_two_workers_of_one_optimizer_have_a_line_each():
    got = found(encoded(INFO, {**INFO, "id": "AA00"}), encoded(STATS))
    assert [(one.id, one.requests) for one in got.served] == [("AA00", None), ("AB12", 4)]
    assert got.optimizers == {"headroom"}


def test_foreign_text_does_no_harm_to_a_terminal():
    evil = {**INFO, "name": "x\x1b[2Jy"}
    for line in table(
        Report(optimizers=found(encoded(evil), []).served, routed_by={}, unserved=[]), datetime.now(UTC)
    ):
        assert line.isprintable()


def test_who_is_routed_and_served_by_nobody_is_told_with_its_last_answer():
    now = datetime.now(UTC)
    gone = Unserved(optimizer="gone", routed_by={"edge": ["active"], "core": ["shadow", "fallback"]})
    bare = Unserved(optimizer="bare", routed_by={"edge": ["shadow"]}, answered_at=now - timedelta(seconds=12))
    assert table(Report(optimizers=[], routed_by={}, unserved=[gone, bare], malformed_replies=2), now) == [
        "no optimizers: `microopt up optimizer`",
        "! replies that are not of a NATS service (ADR-32), left out: 2",
        "! gone, routed by core (shadow, fallback), edge (active): NOBODY SERVES IT, nor has anybody of late",
        "! bare, routed by edge (shadow): no NATS service announces it; it last answered 12 s ago",
    ]
