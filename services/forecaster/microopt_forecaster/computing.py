"""Where forecasts are computed: beside the event loop, one after the other."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[ThreadPoolExecutor]:
    """Yield a thread that computes forecasts, with linear algebra kept to one thread meanwhile.

    A forecast is many small steps. Several threads of them only wait for each other, and those of linear algebra
    spin for work that never comes: together they made 1,000 slices take twice as long.
    """
    with threadpool_limits(1), ThreadPoolExecutor(1, thread_name_prefix="forecasts") as thread:
        yield thread
