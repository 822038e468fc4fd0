"""Prometheus' HTTP API, as much as is needed: one instant query at a time."""

from typing import Any, Final

import aiohttp
import msgspec
from msgspec import Struct

from microopt_collector.sources.base import Rejected
from microopt_collector.sources.http import why
from microopt_collector.sources.values import head, is_html

MAX_BYTES: Final = 8 * 1024 * 1024
_CHUNK: Final = 64 * 1024
_REFUSED: Final = frozenset({401, 403})


class Sample(Struct, frozen=True):
    """One series' value at the time that was asked for; the value is text and may be NaN."""

    metric: dict[str, str]
    value: tuple[float, str]


class _Data(Struct, frozen=True, rename="camel"):
    result_type: str
    result: Any


class _Answer(Struct, frozen=True, rename="camel"):
    status: str
    data: _Data | None = None
    error_type: str = ""
    error: str = ""
    warnings: tuple[str, ...] = ()


_decoder = msgspec.json.Decoder(_Answer)


class PrometheusApi:
    """Asks one server; what goes wrong is a rejection with its reason."""

    def __init__(self, session: aiohttp.ClientSession, url: str, timeout_s: float) -> None:
        self._session = session
        self._url = url.rstrip("/") + "/api/v1/query"
        self._timeout_s = timeout_s

    async def query(self, promql: str, time_s: float) -> list[Sample]:
        """Return the series that `promql` gives at `time_s`.

        Raises:
            Rejected: no answer in time, or none that can be used.
        """
        form = {"query": promql, "time": f"{time_s:.3f}", "timeout": f"{self._timeout_s:g}"}
        try:
            async with self._session.post(self._url, data=form, allow_redirects=False) as answer:
                body = await _body(answer)
                return _samples(answer, body)
        except TimeoutError as error:
            raise Rejected("timeout", f"{self._url}: no answer within timeout_s, {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Rejected("error", f"{self._url}: {why(error)}") from error


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > MAX_BYTES:
            raise Rejected("too_big", f"the answer is longer than {MAX_BYTES:,} bytes; aggregate in the query")
    return bytes(body)


def _samples(http: aiohttp.ClientResponse, body: bytes) -> list[Sample]:
    where = f"{http.url}: HTTP {http.status}"
    if http.status in _REFUSED:
        raise Rejected("refused", f"{where}: look at username, password_file and bearer_token_file")
    if to := http.headers.get("Location"):
        raise Rejected("error", f"{where}: sent on to {to[:200]!r}; give the address that answers itself")
    if is_html(body):
        raise Rejected("html", f"{where}: a web page, not Prometheus: {head(body)!r}; is url right?")
    try:
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = f"{where}: no answer of Prometheus: {head(body)!r}; is url right?"
        raise Rejected("not_json" if http.status == 200 else "error", text) from error
    if answer.status != "success" or answer.data is None:
        raise Rejected("error", f"{where}: {answer.error_type}: {answer.error[:500]}")
    if answer.warnings:  # such as stores that did not answer: a sum over them is too low
        raise Rejected("error", f"{where}: an answer with warnings: {'; '.join(answer.warnings)[:500]}")
    return _of(answer.data, where)


def _of(data: _Data, where: str) -> list[Sample]:
    try:
        if data.result_type == "scalar":
            return [Sample({}, msgspec.convert(data.result, tuple[float, str]))]
        if data.result_type == "vector":
            return msgspec.convert(data.result, list[Sample])
    except msgspec.ValidationError as error:
        raise Rejected("error", f"{where}: not as Prometheus answers: {error}") from error
    raise Rejected("error", f"{where}: the query gives a {data.result_type}; an instant vector is needed")
