"""Polling a Prometheus: all queries of a poll ask for the same time."""

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Final

import aiohttp
import msgspec

from microopt_collector.sources import files
from microopt_collector.sources.base import Rejected, Sink
from microopt_collector.sources.prometheus.answers import Answered, Refusal, check_up, combine
from microopt_collector.sources.prometheus.api import PrometheusApi, Sample
from microopt_collector.sources.prometheus.plan import Query, make_plan
from microopt_collector.sources.prometheus.settings import PrometheusSourceSettings

HINTS_EVERY_S: Final = 300.0
CONNECTIONS: Final = 8


class PrometheusSource:
    """Asks at each multiple of the period; a poll that fails is said and the next one comes."""

    def __init__(self, settings: PrometheusSourceSettings) -> None:
        self._settings = settings
        self._plan = make_plan(settings)
        self._hints_due_s = -math.inf

    @property
    def name(self) -> str:
        """Return the configured name."""
        return self._settings.name

    async def run(self, sink: Sink) -> None:
        """Poll for ever."""
        async with self._session() as session:
            api = PrometheusApi(session, self._settings.url, self._settings.timeout_s)
            while True:
                began = time.perf_counter()
                await self._poll(api, sink)
                sink.took(time.perf_counter() - began)
                period_s = self._settings.period_s
                await asyncio.sleep(
                    period_s - time.time() % period_s
                )  # polls that were missed are not made up for

    async def _poll(self, api: PrometheusApi, sink: Sink) -> None:
        now_s = time.time()
        try:
            if self._plan.up:
                check_up(await api.query(self._plan.up, now_s), self._plan.up)
        except Rejected as error:
            sink.up(False)
            sink.reject((self._plan.up or "").encode(), subject=self._subject("up"), error=error)
            return
        answered, failed = await self._ask(api, now_s)
        sink.up(not failed)
        measurements, refusals = combine(answered, self._plan, source=self.name, time_s=now_s)
        for refusal in [*failed, *refusals]:
            sink.reject(refusal.data, subject=self._subject(refusal.name), error=refusal.error)
        for measurement in measurements:
            try:
                sink.emit(measurement)
            except Rejected as error:
                sink.reject(msgspec.json.encode(measurement), subject=self._subject("result"), error=error)
        await self._give_hints(api, sink, now_s)

    async def _ask(self, api: PrometheusApi, now_s: float) -> tuple[list[Answered], list[Refusal]]:
        """Return the queries that were answered, and the failures of the others."""
        results = await asyncio.gather(*(self._ask_one(api, query, now_s) for query in self._plan.queries))
        failures = {(r.error.reason, str(r.error)): r for r in results if isinstance(r, Refusal)}
        return [r for r in results if isinstance(r, Answered)], list(failures.values())  # each failure once

    async def _ask_one(self, api: PrometheusApi, query: Query, now_s: float) -> Answered | Refusal:
        ages: Sequence[Sample] | None = None
        try:
            samples = await api.query(query.promql, now_s)
            if query.age:
                ages = await api.query(query.age, now_s)
        except Rejected as error:
            return Refusal(query.name, query.promql.encode(), error)
        return Answered(query, samples, ages)

    async def _give_hints(self, api: PrometheusApi, sink: Sink, now_s: float) -> None:
        if abs(now_s - self._hints_due_s) < HINTS_EVERY_S:
            return
        self._hints_due_s = now_s
        for hint in self._plan.hints:
            try:
                if await api.query(hint.query, now_s):
                    sink.hint(hint.text)
            except Rejected as error:
                sink.reject(hint.query.encode(), subject=self._subject("hint"), error=error)

    def _subject(self, name: str) -> str:
        return f"{self.name}: {name}"

    def _session(self) -> aiohttp.ClientSession:
        settings = self._settings
        auth = None
        headers = {}
        if settings.username is not None and settings.password_file is not None:
            auth = aiohttp.BasicAuth(settings.username, files.secret(settings.password_file, "password_file"))
        if settings.bearer_token_file is not None:
            token = files.secret(settings.bearer_token_file, "bearer_token_file")
            headers["Authorization"] = f"Bearer {token}"
        connector = aiohttp.TCPConnector(
            limit=CONNECTIONS, ssl=files.tls_context(settings.tls_ca) if settings.tls_ca else True
        )
        return aiohttp.ClientSession(
            connector=connector,
            auth=auth,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=settings.timeout_s),
        )
