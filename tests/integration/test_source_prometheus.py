"""The Prometheus source: a real Prometheus that scrapes what a core and a KPI calculator would say."""

import asyncio
import json
import time
from collections.abc import Callable

import aiohttp
import msgspec
import pytest
from aiohttp import web

from microopt.broker import free_port
from microopt.errors import ConfigError
from microopt.testing import eventually
from microopt_collector.sources.prometheus import PrometheusSource, PrometheusSourceSettings

SMF = """\
fivegs_smffunction_sm_sessionnbr{plmnid="00101",snssai="1-000001"} 2
fivegs_smffunction_sm_sessionnbr{plmnid="00101",snssai="2"} 0
"""
UPF = """\
# TYPE fivegs_ep_n3_gtp_indatapktn3upf counter
fivegs_ep_n3_gtp_indatapktn3upf 0
"""
SEIDS = """\
fivegs_smffunction_sm_seid_session{plmnid="00101",snssai="1-000001",seid="11"} 1
fivegs_smffunction_sm_seid_session{plmnid="00101",snssai="1-000001",seid="12"} 1
fivegs_smffunction_sm_seid_session{plmnid="00101",snssai="1-000001",seid="13"} 0
"""
KPI = """\
slice_throughput{snssai="1-000001",seid="11",direction="downlink"} 6e6
slice_throughput{snssai="1-000001",seid="12",direction="downlink"} 7.5e6
slice_throughput{snssai="1-000001",seid="13",direction="downlink"} 9e9
slice_throughput{snssai="1-000001",seid="11",direction="uplink"} 1e6
slice_throughput{snssai="1-000001",seid="12",direction="uplink"} 2e6
"""


BEGAN_S = time.monotonic()


def volume() -> str:
    """Count a megabyte a second."""
    sent = 1e6 * (time.monotonic() - BEGAN_S)
    return f'# TYPE n3_bytes_total counter\nn3_bytes_total{{snssai="2"}} {sent:.0f}\n'


def pods() -> str:
    """Give the usage of containers with times of their own, as cAdvisor does; one ended 20 s ago."""
    now_ms = int(time.time() * 1000)
    cpu = "container_cpu_usage_seconds_total"
    old = f'{{container="upf",pod="open5gs-upf2-7d9c5b6f45-x2x9z"}} 70 {now_ms - now_ms % 1000 - 20_000}'
    lines = [
        f'{cpu}{{container="upf",pod="open5gs-upf1-7d9c5b6f45-x2x9z"}} {now_ms / 1000 * 1.5:.3f} {now_ms}',
        f'{cpu}{{container="",pod="open5gs-upf1-7d9c5b6f45-x2x9z"}} {now_ms / 1000 * 9:.3f} {now_ms}',
    ]
    return f"# TYPE {cpu} counter\n" + "\n".join(lines) + f"\nusers{old}\n"


@pytest.fixture(scope="module")
def dying(exporter):
    """Return what one test may stop."""
    return exporter(SMF)


@pytest.fixture(scope="module")
def server(scraped, exporter, dying):
    """Start a Prometheus that scrapes a core."""
    return scraped(
        dying=dying,
        smf=exporter(SMF),
        upf=exporter(UPF),
        kpi=exporter(KPI),
        seids=exporter(SEIDS),
        n3=exporter(volume),
        cadvisor=exporter(pods),
    )


def source(url: str, **changes) -> PrometheusSource:
    table = {"kind": "prometheus", "url": url, "period_s": 0.2} | changes
    return PrometheusSource(msgspec.convert(table, PrometheusSourceSettings))


async def known(server, query: str) -> None:
    """Wait until the server gives something for `query`."""

    async def found():
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{server.url}/api/v1/query", params={"query": query}) as answer,
        ):
            return answer.status == 200 and (await answer.json())["data"]["result"]

    await eventually(found, what=f"Prometheus knows {query}")


async def test_open5gs_gives_users_and_says_that_its_counters_are_dead(server, measuring):
    await known(server, 'fivegs_ep_n3_gtp_indatapktn3upf and on () fivegs_smffunction_sm_sessionnbr{job="smf"}')
    async with measuring(source(server.url, preset="open5gs", timeout_s=7.5)) as heard:
        await eventually(lambda: len(heard.measurements) >= 4 and heard.hints)
    assert {(m.slice, m.users, m.qos) for m in heard.measurements} == {("1-000001", 2.0, None), ("2", 0.0, None)}
    assert heard.rejected == []
    assert "compiled out" in heard.hints[0]
    assert len({m.time_s for m in heard.measurements[:2]}) == 1  # all queries of a poll are of one time
    assert heard.states[-1] is True


@pytest.mark.parametrize(("direction", "qos"), [("downlink", 6.75), ("uplink", 1.5)])
async def test_monarch_gives_the_throughput_of_a_user_without_dead_sessions(server, measuring, direction, qos):
    await known(
        server, 'slice_throughput and on (seid) fivegs_smffunction_sm_seid_session and on () up{job="smf"}'
    )
    parameters = {"direction": direction, "job": "smf|kpi|seids"}
    async with measuring(source(server.url, preset="monarch", parameters=parameters)) as heard:
        await eventually(lambda: heard.measurements)
    by_slice = {m.slice: (m.users, m.qos) for m in heard.measurements}
    assert by_slice == {"1-000001": (2.0, pytest.approx(qos)), "2": (0.0, None)}
    assert heard.rejected == []


async def test_cadvisor_gives_the_use_of_a_workload_in_millicores(server, measuring):
    await known(server, "rate(container_cpu_usage_seconds_total[5s])")
    found = source(
        server.url,
        preset="cadvisor",
        parameters={"resource": "upf_cpu", "window": "2s"},
        slice_names={"open5gs-upf1": "1-000001"},
    )
    async with measuring(found) as heard:
        # Prometheus' rates are too low until the series is as old as the window.
        await eventually(
            lambda: any(m.usage["upf_cpu"] == pytest.approx(1500.0, rel=0.1) for m in heard.measurements)
        )
    assert {m.slice for m in heard.measurements} == {"1-000001"}
    assert heard.rejected == []  # no quota and no PSI: throttling and pressure may be missing


async def test_a_target_that_dies_is_down_and_gives_no_measurement(server, dying, measuring):
    await known(server, 'fivegs_smffunction_sm_sessionnbr{job="dying"} and on () up{job="smf"}')
    found = source(server.url, preset="open5gs", parameters={"job": "smf|dying"})
    async with measuring(found) as heard:
        await eventually(lambda: heard.measurements)
        await asyncio.to_thread(dying.stop)
        await eventually(lambda: heard.rejected)
        before = len(heard.measurements)
        await eventually(lambda: len(heard.rejected) > 3)
    assert heard.reasons == {"down"}
    assert f"are down: dying 127.0.0.1:{dying.port}" in heard.rejected[0][1]
    assert len(heard.measurements) == before
    assert heard.states[-1] is False


async def test_a_target_that_is_not_scraped_at_all_is_down(server, measuring):
    found = source(server.url, preset="open5gs", parameters={"job": "nowhere"})
    async with measuring(found) as heard:
        await eventually(lambda: heard.rejected)
    assert heard.rejected[0][0] == "down"
    assert "no target matches" in heard.rejected[0][1]
    assert heard.measurements == []


async def test_samples_that_stopped_are_stale_though_the_lookback_finds_them(server, measuring):
    await known(server, "users")
    asked = {
        "queries": {"users": "users"},
        "age": {"users": "time() - timestamp(users)"},
        "slice": "2",
        "max_age_s": 15.0,
    }
    async with measuring(source(server.url, **asked)) as heard:
        await eventually(lambda: heard.rejected)
    assert heard.measurements == []
    assert heard.reasons == {"stale"}
    assert "slice 2: the last sample is 2" in heard.rejected[0][1]


async def test_a_counters_rate_is_the_servers_and_a_metric_that_is_missing_is_empty(server, measuring):
    queries = {"users": "no_such_metric", "qos": "sum by (snssai) (rate(n3_bytes_total[$window]))"}
    await known(server, "rate(n3_bytes_total[2s])")
    found = source(server.url, queries=queries, scale={"qos": 8e-6}, parameters={"window": "2s"})
    async with measuring(found) as heard:
        await eventually(lambda: any(m.qos == pytest.approx(8.0, rel=0.1) for m in heard.measurements))
    assert heard.reasons == {"empty"}


async def test_a_query_that_is_wrong_is_said_in_prometheus_words_and_the_others_go_on(server, measuring):
    await known(server, "fivegs_smffunction_sm_sessionnbr")
    queries = {"users": "sum by (snssai) (fivegs_smffunction_sm_sessionnbr)", "qos": "sum by ("}
    async with measuring(source(server.url, queries=queries)) as heard:
        await eventually(lambda: heard.measurements)
    [(reason, text), *_] = heard.rejected
    assert reason == "error"
    assert "HTTP 400: bad_data" in text
    assert "parse error" in text
    assert heard.states[-1] is False


class Odd:
    """A server that answers as no Prometheus does."""

    def __init__(self) -> None:
        self.answer: Callable[[], web.Response] | None = None
        self.asked = 0

    async def __call__(self, _) -> web.Response:
        self.asked += 1
        if self.answer is None:
            await asyncio.sleep(60)
        assert self.answer is not None
        return self.answer()


def page(*, content_type: str = "text/plain", **fields) -> Callable[[], web.Response]:
    return lambda: web.Response(content_type=content_type, **fields)


def result(kind: str, *results, **extra) -> Callable[[], web.Response]:
    data = {"resultType": kind, "result": list(results)}
    return lambda: web.json_response({"status": "success", "data": data, **extra})


SAMPLE = {"metric": {"snssai": "2"}, "value": [1.0, "4"]}
ODD = {
    "a hang": (None, "timeout", "no answer within timeout_s, 0.3 s"),
    "a web page": (page(text="<!doctype html><title>Sign in</title>"), "html", "Sign in"),
    "an error page": (page(text="<html>502</html>", status=502), "html", "HTTP 502"),
    "a login": (page(status=302, headers={"Location": "https://login/"}), "error", "'https://login/'"),
    "a refusal": (page(status=401), "refused", "password_file"),
    "no JSON": (page(text="OK"), "not_json", "is url right"),
    "other JSON": (page(text="[1]"), "not_json", "is url right"),
    "a matrix": (result("matrix"), "error", "an instant vector is needed"),
    "a sample without a value": (result("vector", {"metric": {}}), "error", "missing required field `value`"),
    "a part of the stores": (result("vector", SAMPLE, warnings=["store 1 is gone"]), "error", "store 1 is gone"),
    "too much": (page(body=b"{" + bytes(9_000_000)), "too_big", "8,388,608 bytes"),
}


@pytest.mark.parametrize("case", ODD)
async def test_an_odd_answer_is_said_and_the_next_poll_comes(http_part, measuring, case):
    answer, reason, text = ODD[case]
    odd = Odd()
    odd.answer = answer
    server = await http_part(odd)
    asked = {"queries": {"users": "u", "qos": "q"}, "timeout_s": 0.3}
    async with measuring(source(f"http://127.0.0.1:{server.port}", **asked)) as heard:
        await eventually(lambda: heard.rejected)
        polls = odd.asked
        await eventually(lambda: odd.asked > polls)
    assert heard.reasons == {reason}
    assert text in heard.rejected[0][1]
    assert heard.measurements == []
    assert heard.states[-1] is False


async def test_a_server_that_comes_later_is_asked_again(measuring):
    port = free_port()
    async with measuring(source(f"http://127.0.0.1:{port}", queries={"users": "u"})) as heard:
        await eventually(lambda: heard.rejected)
        assert heard.reasons == {"error"}
        assert heard.rejected[0][1].endswith("/api/v1/query: Connection refused")
        later = Odd()
        later.answer = result("vector", SAMPLE)
        runner = web.ServerRunner(web.Server(later))
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            await eventually(lambda: heard.measurements)
        finally:
            await runner.cleanup()
    assert heard.states[-1] is True


async def test_a_token_is_sent_and_never_shown(http_part, measuring, tmp_path):
    seen = []

    async def answer(request) -> web.Response:
        seen.append((request.headers["Authorization"], (await request.text())))
        return web.Response(status=403)

    token = tmp_path / "token"
    token.write_text("s3cret\n")
    server = await http_part(answer)
    found = source(
        f"http://127.0.0.1:{server.port}", queries={"users": 'sum(u{a="b"})'}, bearer_token_file=str(token)
    )
    async with measuring(found) as heard:
        await eventually(lambda: heard.rejected)
    assert seen[0][0] == "Bearer s3cret"
    assert "query=sum" in seen[0][1]
    assert "s3cret" not in json.dumps([heard.rejected, heard.subjects])


async def test_a_missing_token_file_is_named(recorder):
    with pytest.raises(ConfigError, match="bearer_token_file 'nowhere': cannot be read"):
        await source("http://127.0.0.1:1", queries={"users": "u"}, **{"bearer_token_file": "nowhere"}).run(
            recorder
        )
