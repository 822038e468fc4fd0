"""Computes what the store lacks, in as many processes as wanted, and shows how far it is."""

import hashlib
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Final, Self, TypeVar

import msgspec
import torch
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from microopt.errors import ConfigError
from microopt_testbed.experiments import approaches
from microopt_testbed.experiments.settings import ORACLE, Setting
from microopt_testbed.experiments.store import Outcome, Store

_SHOWN_FAILURES: Final = 3

Task = TypeVar("Task")
Result = TypeVar("Result")


class Job(Struct, frozen=True, kw_only=True):
    """One approach in one setting on one model.

    `code` and `model_digest` say of which code and model a result is; `model_path` is only where to find it.
    """

    approach: str
    setting: Setting
    model_path: str
    model_digest: str
    code: str
    grid_points: int

    @property
    def key(self) -> str:
        """Return what the outcome is stored by: everything that it depends on."""
        parts = [self.approach, self.setting, self.model_digest, self.code, approaches.DEADLINE_S]
        if self.approach == ORACLE:
            parts.append(self.grid_points)
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:24]

    def __str__(self) -> str:
        return f"{approaches.LABELS[self.approach]}, {self.setting}"


class Runner:
    """Calls functions in one or more processes, which stay for the next call until the context ends.

    Where the context ends with an error, an interrupt among them, what is still running is ended too.
    """

    def __init__(self, processes: int, console: Console) -> None:
        self._processes, self._console = processes, console
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        if error is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            # Also those that were only being started. What is stored is stored whole, so nothing is half done.
            while children := multiprocessing.active_children():
                for child in children:
                    child.kill()
                    child.join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None

    def run_missing(self, jobs: Iterable[Job], store: Store) -> None:
        """Compute the outcomes that the store lacks; each is stored as soon as it is there.

        Raises:
            ConfigError: some could not be computed (the others are stored); names them and says why.
        """
        missing = {job.key: job for job in jobs if job.key not in store}
        self.each(_run, list(missing.values()), lambda job, outcome: store.put(job.key, outcome), title="solving")

    def each(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        keep: Callable[[Task, Result], None],
        *,
        title: str,
    ) -> None:
        """Call `function` on every task and, in this process, `keep` on every result; show how far it is.

        Raises:
            ConfigError: some calls failed; the others' results were kept.
        """
        if not tasks:
            return
        failures = []
        columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        with Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True) as bar:
            shown = bar.add_task(str(tasks[0]), total=len(tasks))
            run = self._here if self._processes == 1 else self._elsewhere
            for task, result in run(function, tasks, lambda text: bar.update(shown, description=text)):
                if isinstance(result, Exception):
                    failures.append(f"{task}: {result}")
                else:
                    keep(task, result)
                bar.advance(shown)
        if failures:
            raise ConfigError(_sentence(title, failures, len(tasks)))

    def _here(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], show: Callable[[str], None]
    ) -> Iterator[tuple[Task, Result | Exception]]:
        torch.set_num_threads(1)
        for task in tasks:
            show(str(task))
            yield task, _guarded(function, task)

    def _elsewhere(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], show: Callable[[str], None]
    ) -> Iterator[tuple[Task, Result | Exception]]:
        if self._pool is None:
            # Forked children would share torch's threads' locks; spawned ones begin clean.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._processes, mp_context=context, initializer=_prepare)
        try:
            waiting = {self._pool.submit(_guarded, function, task): task for task in tasks}
            for done in as_completed(waiting):
                show(f"done: {waiting[done]}")
                yield waiting[done], done.result()
        except BrokenProcessPool as error:
            raise ConfigError("a process was killed, perhaps for want of memory; lower --jobs") from error


def _sentence(title: str, failures: list[str], tasks: int) -> str:
    listed = failures[:_SHOWN_FAILURES]
    if len(failures) > len(listed):
        listed.append(f"and {len(failures) - len(listed)} more")
    return "\n".join([f"{title}: {len(failures)} of {tasks} failed; the others are kept:", *listed])


def _guarded(function: Callable[[Task], Result], task: Task) -> Result | Exception:
    """Return the error rather than raise it: one task that fails must not end the others."""
    try:
        return function(task)
    except Exception as error:
        # Errors of other packages cannot always be sent from one process to another.
        return RuntimeError(f"{type(error).__name__}: {error}")


def _prepare() -> None:
    """Leave the interrupt from the keyboard to the process that stores the results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def _run(job: Job) -> Outcome:
    return approaches.run(job.approach, job.setting, Path(job.model_path), job.grid_points)
