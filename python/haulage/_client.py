"""The producer's side: submit jobs, and look after them."""

from __future__ import annotations

import os
import sys
import time

from . import _haulage, _log, _wait
from ._haulage import NewJob, Record
from ._job import JobHandle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from typing import Any

    from typing_extensions import Self, Unpack

    from ._haulage import Operation
    from ._options import JobOptions, RecordFilter, Seconds
    from ._status import Cancellation, Status

DEFAULT_URL = "sqlite://haulage.db"

# How many results `map` holds at once.
_PART = 1_000


def default_url() -> str:
    """``HAULAGE_URL``, or the database ``haulage.db`` of the working directory."""
    return os.environ.get("HAULAGE_URL") or DEFAULT_URL


def connect(url: str | None = None) -> Client:
    """Opens the store of jobs that a URL names.

    ``sqlite://haulage.db`` and ``sqlite:///srv/haulage.db`` are files, made where there is
    none; ``https://jobs.example.com`` is a server (``haulage serve``), with the key that is in
    ``HAULAGE_KEY``; ``sqs://queue?table=results`` is on AWS; ``memory://`` is a new, empty store
    of this process. Default: the environment variable ``HAULAGE_URL``, else ``sqlite://haulage.db``.
    Used in a ``with`` statement, the client is closed at its end.

    Raises ``ConfigError`` where the URL is wrong, ``UnavailableError`` where the place cannot
    be reached. A client may be used by many threads and event loops, but not across a fork.
    """
    url = url if url is not None else default_url()
    _log.refresh()
    return Client(_haulage.connect(url).wait(), url)


async def connect_async(url: str | None = None) -> Client:
    """Like ``connect``, in an event loop."""
    url = url if url is not None else default_url()
    _log.refresh()
    return Client(await _wait.ended(_haulage.connect(url)), url)


class Client:
    """A store of jobs: submits jobs, waits for them, looks after them. Made by ``connect``."""

    __slots__ = ("__weakref__", "_core", "url")

    def __init__(self, core: _haulage.Client, url: str) -> None:
        self._core = core
        self.url = url
        """Where the jobs are."""

    def __reduce__(self) -> tuple[Callable[[str], Client], tuple[str]]:
        """Another process connects for itself."""
        if self.backend == "memory":
            raise TypeError(f"a client of {self.url} cannot be pickled: its jobs are in this process alone")
        return connect, (self.url,)

    @property
    def backend(self) -> str:
        """The kind of backend: ``embedded``, ``memory``, ``aws``."""
        return self._core.backend

    def job(self, job_id: str) -> JobHandle[Any]:
        """The handle of a job that was submitted before. Asks nobody."""
        return JobHandle(self, job_id)

    def _new_jobs(self, bodies: Iterable[Any], options: JobOptions) -> list[NewJob]:
        return [body if isinstance(body, NewJob) else NewJob(body, **options) for body in bodies]

    def _handles(self, answers: list[tuple[str, bool]]) -> list[JobHandle[Any]]:
        return [JobHandle(self, job_id, duplicate) for job_id, duplicate in answers]

    def submit(self, body: Any, **options: Unpack[JobOptions]) -> JobHandle[Any]:
        """Submits a job; once this has returned, it is kept durably and will come to an end.

        The body is any value with a JSON form, or a ``NewJob``. The options are those of
        ``NewJob``. Raises ``InvalidJSONError``, ``InvalidArgumentError``, ``TooLargeError``
        before anything is stored, or ``UnavailableError``.
        """
        return self._handles(self._core.submit(self._new_jobs([body], options)).wait())[0]

    async def submit_async(self, body: Any, **options: Unpack[JobOptions]) -> JobHandle[Any]:
        """Like ``submit``, in an event loop."""
        operation = self._core.submit(self._new_jobs([body], options))
        return self._handles(await _wait.ended(operation))[0]

    def submit_many(self, bodies: Iterable[Any], **options: Unpack[JobOptions]) -> list[JobHandle[Any]]:
        """Submits many jobs in as few calls as the backend allows; the handles are in their order.

        The options hold for each body that is no ``NewJob``. All jobs are checked before the
        first is submitted. Raises ``SubmitManyError``, which tells which were accepted.
        """
        return self._handles(self._core.submit(self._new_jobs(bodies, options)).wait())

    async def submit_many_async(
        self, bodies: Iterable[Any], **options: Unpack[JobOptions]
    ) -> list[JobHandle[Any]]:
        """Like ``submit_many``, in an event loop."""
        return self._handles(await _wait.ended(self._core.submit(self._new_jobs(bodies, options))))

    def wait(self, jobs: Iterable[JobHandle[Any] | str], timeout: Seconds | None = None) -> list[Record]:
        """Waits until all these jobs are over; their records are in the order of the jobs.

        Raises ``WaitTimeoutError`` when ``timeout`` seconds have passed; default: no limit.
        """
        return [record for _, record in sorted(self._ended(_ids(jobs), timeout))]

    async def wait_async(
        self, jobs: Iterable[JobHandle[Any] | str], timeout: Seconds | None = None
    ) -> list[Record]:
        """Like ``wait``, in an event loop."""
        ended = [item async for item in _wait.items(await self._wait_async(_ids(jobs), timeout))]
        return [record for _, record in sorted(ended)]

    def as_completed(
        self, jobs: Iterable[JobHandle[Any] | str], timeout: Seconds | None = None
    ) -> Iterator[Record]:
        """The records of these jobs, each as soon as its job is over."""
        for _, record in self._ended(_ids(jobs), timeout):
            yield record

    async def as_completed_async(
        self, jobs: Iterable[JobHandle[Any] | str], timeout: Seconds | None = None
    ) -> AsyncIterator[Record]:
        """Like ``as_completed``, in an event loop."""
        async for _, record in _wait.items(await self._wait_async(_ids(jobs), timeout)):
            yield record

    async def _wait_async(self, ids: list[str], timeout: Seconds | None) -> Operation:
        if timeout is None and self._is_in_handler:
            from ._worker import running

            if running.never_end(self, ids):
                running.refuse_endless(await _wait.ended(self._core.get(ids, "status")))
        return self._core.wait(ids, timeout)

    @property
    def _is_in_handler(self) -> bool:
        # Only a worker loads it.
        return "haulage._worker.running" in sys.modules

    def _ended(self, ids: list[str], timeout: Seconds | None) -> Iterator[tuple[int, Record]]:
        if timeout is None and self._is_in_handler:
            from ._worker import running

            if running.never_end(self, ids):
                running.refuse_endless(self._core.get(ids, "status").wait())
        operation = self._core.wait(ids, timeout)
        try:
            while (batch := operation.wait_items()) is not None:
                yield from batch
        finally:
            operation.abort()

    def _ended_in_parts(self, ids: list[str], timeout: Seconds | None) -> Iterator[tuple[int, Record]]:
        """The same, a part after the other: no more than one part's results are held at once."""
        deadline = _Deadline(timeout)
        for start in range(0, len(ids), _PART):
            for index, record in self._ended(ids[start : start + _PART], deadline.left()):
                yield start + index, record

    def map(
        self,
        bodies: Iterable[Any],
        *,
        wait_timeout: Seconds | None = None,
        return_exceptions: bool = False,
        progress: bool = False,
        **options: Unpack[JobOptions],
    ) -> Iterator[Any]:
        """Submits a job for each body, at once, and yields their results in the order of the bodies.

        A job that failed raises its exception when its turn comes, unless
        ``return_exceptions`` is set: then it is yielded. ``wait_timeout`` is for all together, in
        seconds from when the first result is asked for. All bodies are held in memory until they
        are submitted; of results, 1,000 at most, whose turn comes next. ``progress`` shows a bar,
        where tqdm is installed. The options are those of ``submit``.
        """
        handles = self.submit_many(bodies, **options)
        return self._results(handles, wait_timeout, return_exceptions, progress)

    def _results(
        self,
        handles: list[JobHandle[Any]],
        timeout: Seconds | None,
        return_exceptions: bool,
        progress: bool,
    ) -> Iterator[Any]:
        done: dict[int, Record] = {}
        turn = 0
        for index, record in _shown(
            self._ended_in_parts(_ids(handles), timeout), total=len(handles), progress=progress
        ):
            done[index] = record
            while turn in done:
                yield _result(done.pop(turn), return_exceptions)
                turn += 1

    async def map_async(
        self,
        bodies: Iterable[Any],
        *,
        wait_timeout: Seconds | None = None,
        return_exceptions: bool = False,
        **options: Unpack[JobOptions],
    ) -> AsyncIterator[Any]:
        """Like ``map``, in an event loop: ``async for result in client.map_async(bodies)``."""
        handles = await self.submit_many_async(bodies, **options)
        async for result in self._results_async(handles, wait_timeout, return_exceptions):
            yield result

    async def _results_async(
        self, handles: list[JobHandle[Any]], timeout: Seconds | None, return_exceptions: bool
    ) -> AsyncIterator[Any]:
        ids, deadline = _ids(handles), _Deadline(timeout)
        for start in range(0, len(ids), _PART):
            done: dict[int, Record] = {}
            turn = 0
            part = await self._wait_async(ids[start : start + _PART], deadline.left())
            async for index, record in _wait.items(part):
                done[index] = record
                while turn in done:
                    yield _result(done.pop(turn), return_exceptions)
                    turn += 1

    def _state(self, job_id: str) -> Record:
        # Results may be large, and are kept elsewhere on AWS.
        record: Record = self._core.get([job_id], "status").wait()[0]
        return record

    async def _state_async(self, job_id: str) -> Record:
        record: Record = (await _wait.ended(self._core.get([job_id], "status")))[0]
        return record

    def record(self, job_id: str, *, body: bool = False) -> Record:
        """What is known of a job; with its body where that is asked for.

        Raises ``NotFoundError``, ``ExpiredError``, ``UnavailableError``.
        """
        record: Record = self._core.get([job_id], "full" if body else "result").wait()[0]
        return record

    async def record_async(self, job_id: str, *, body: bool = False) -> Record:
        """Like ``record``, in an event loop."""
        record: Record = (await _wait.ended(self._core.get([job_id], "full" if body else "result")))[0]
        return record

    def cancel(self, job_id: str) -> Cancellation:
        """Cancels a job; see ``JobHandle.cancel``."""
        return _cancellation(self._core.cancel(job_id).wait())

    async def cancel_async(self, job_id: str) -> Cancellation:
        """Like ``cancel``, in an event loop."""
        return _cancellation(await _wait.ended(self._core.cancel(job_id)))

    def cancel_many(
        self, status: Status | str | None = None, **which: Unpack[RecordFilter]
    ) -> dict[str, Cancellation]:
        """Cancels all jobs that wait or run, and for which everything that is given holds: what came
        of each, by its id.

        ``status`` is ``submitted`` or ``in_progress``; the others are those of ``records``. Raises
        ``InvalidArgumentError`` where nothing is given. Where another error comes, some may be
        cancelled already; it does no harm to call it again.
        """
        return _cancellations(self._core.cancel_many(_name(status), **which).wait())

    async def cancel_many_async(
        self, status: Status | str | None = None, **which: Unpack[RecordFilter]
    ) -> dict[str, Cancellation]:
        """Like ``cancel_many``, in an event loop."""
        return _cancellations(await _wait.ended(self._core.cancel_many(_name(status), **which)))

    def redrive(self, job_id: str) -> None:
        """Puts a job that failed or was cancelled back to work, with all its attempts."""
        self._core.redrive(job_id).wait()

    async def redrive_async(self, job_id: str) -> None:
        """Like ``redrive``, in an event loop."""
        await _wait.ended(self._core.redrive(job_id))

    def redrive_dead(self, limit: int = 1000, *, queue: str | None = None) -> list[str]:
        """Puts up to ``limit`` dead letters, of a queue or of all, back to work, oldest first; their ids."""
        return list(self._core.redrive_dead(limit, queue=queue).wait())

    async def redrive_dead_async(self, limit: int = 1000, *, queue: str | None = None) -> list[str]:
        """Like ``redrive_dead``, in an event loop."""
        return list(await _wait.ended(self._core.redrive_dead(limit, queue=queue)))

    def records(
        self,
        status: Status | str | None = None,
        *,
        dead: bool = False,
        limit: int = 20,
        **which: Unpack[RecordFilter],
    ) -> list[Record]:
        """Records, newest first, ``limit`` at most: those for which everything that is given holds.

        ``dead`` is for dead letters only; ``queue``, ``task``, ``group``, ``request_id``, ``metadata``,
        ``error``, ``older_than``, ``newer_than`` and ``before`` are those of ``haulage list``. The next page
        is ``before`` the last record of this one. Raises ``NotFoundError`` where the job of ``before``
        is not there any more.
        """
        return list(self._core.list(_name(status), dead=dead, limit=limit, **which).wait())

    async def records_async(
        self,
        status: Status | str | None = None,
        *,
        dead: bool = False,
        limit: int = 20,
        **which: Unpack[RecordFilter],
    ) -> list[Record]:
        """Like ``records``, in an event loop."""
        operation = self._core.list(_name(status), dead=dead, limit=limit, **which)
        return list(await _wait.ended(operation))

    def purge(self, status: Status | str, older_than: Seconds = 0, *, queue: str | None = None) -> int:
        """Deletes the records that have had a status for so long, in seconds; how many."""
        return int(self._core.purge(str(status), older_than, queue=queue).wait())

    async def purge_async(
        self, status: Status | str, older_than: Seconds = 0, *, queue: str | None = None
    ) -> int:
        """Like ``purge``, in an event loop."""
        return int(await _wait.ended(self._core.purge(str(status), older_than, queue=queue)))

    def pause(self, queue: str) -> bool:
        """Starts no more jobs of a queue, in any worker, until it is resumed; whether it was not paused."""
        return bool(self._core.set_paused(queue, True).wait())

    async def pause_async(self, queue: str) -> bool:
        """Like ``pause``, in an event loop."""
        return bool(await _wait.ended(self._core.set_paused(queue, True)))

    def resume(self, queue: str) -> bool:
        """Lets a paused queue go on; whether it was paused."""
        return bool(self._core.set_paused(queue, False).wait())

    async def resume_async(self, queue: str) -> bool:
        """Like ``resume``, in an event loop."""
        return bool(await _wait.ended(self._core.set_paused(queue, False)))

    def stats(self) -> dict[str, Any]:
        """The jobs in numbers: ``visible``, ``delayed``, ``in_progress``, ``success`` and so on.

        ``queues`` has the same of each queue that has jobs or is paused, by name.
        """
        return dict(self._core.stats().wait())

    async def stats_async(self) -> dict[str, Any]:
        """Like ``stats``, in an event loop."""
        return dict(await _wait.ended(self._core.stats()))

    def ping(self) -> None:
        """Asks whether the queue and the records can be reached, at the least cost.

        Raises ``UnavailableError`` where they cannot.
        """
        self._core.ping().wait()

    async def ping_async(self) -> None:
        """Like ``ping``, in an event loop."""
        await _wait.ended(self._core.ping())

    def check(self) -> list[dict[str, Any]]:
        """Checks the backend's health: one finding a check, with ``severity`` and ``message``."""
        return [dict(finding) for finding in self._core.check().wait()]

    async def check_async(self) -> list[dict[str, Any]]:
        """Like ``check``, in an event loop."""
        return [dict(finding) for finding in await _wait.ended(self._core.check())]

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Looks inside an embedded database by SQL, which reads and cannot write.

        The view ``jobs`` is made for it. Raises ``InvalidArgumentError`` where the query is wrong.
        """
        return _rows(self._core.sql(query).wait())

    async def sql_async(self, query: str) -> list[dict[str, Any]]:
        """Like ``sql``, in an event loop."""
        return _rows(await _wait.ended(self._core.sql(query)))

    def close(self) -> None:
        """Lets go of what the client has open; calls that come later raise ``UnavailableError``.

        What was submitted stays. When the last process has closed a database, its log is merged
        into the file. The end of the program closes, too; so does a ``with`` statement.
        """
        self._core.close().wait()

    async def close_async(self) -> None:
        """Like ``close``, in an event loop."""
        await _wait.ended(self._core.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_async()

    def __repr__(self) -> str:
        return f"<Client {self.url}>"


def _cancellation(answer: str) -> Cancellation:
    # Not at the top: to import `enum` takes longer than all of this module.
    from ._status import Cancellation

    return Cancellation(answer)


def _cancellations(answers: Iterable[tuple[str, str]]) -> dict[str, Cancellation]:
    return {job_id: _cancellation(answer) for job_id, answer in answers}


def _rows(found: Any) -> list[dict[str, Any]]:
    columns, rows = found
    return [dict(zip(columns, row)) for row in rows]


def _name(status: Status | str | None) -> str | None:
    return None if status is None else str(status)


def _ids(jobs: Iterable[JobHandle[Any] | str]) -> list[str]:
    return [job if isinstance(job, str) else job.id for job in jobs]


def _result(record: Record, return_exceptions: bool) -> Any:
    if not return_exceptions:
        return record.result
    try:
        return record.result
    except Exception as error:
        return error


class _Deadline:
    """The end of a wait that is made of several."""

    def __init__(self, timeout: Seconds | None) -> None:
        # By their name, so that nothing is imported for it.
        limit = timeout if timeout is None or isinstance(timeout, (int, float)) else timeout.total_seconds()
        self._end = None if limit is None else time.monotonic() + limit

    def left(self) -> float | None:
        """What is left of it, in seconds."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())


def _shown(
    items: Iterator[tuple[int, Record]], *, total: int, progress: bool
) -> Iterator[tuple[int, Record]]:
    if not progress:
        return items
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return items
    return iter(tqdm(items, total=total, unit="job"))
