"""The core, in Rust. The package's modules are its interface."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal, final

from typing_extensions import Unpack

from ._job import Progress
from ._options import RecordFilter, Seconds
from ._status import Status
from ._worker.handler import Answer

VERSION: Final[str]
AWS: Final[bool]

def connect(
    url: str,
    credentials: tuple[str, str, str | None] | None = None,
    table_credentials: tuple[str, str, str | None] | None = None,
) -> Operation: ...
def connect_manual() -> Operation: ...
def connect_records(url: str, credentials: tuple[str, str, str | None] | None = None) -> Operation: ...
def dumps(what: str, value: Any) -> str: ...
def dumps_checkpoint(value: Any) -> str: ...
def log_level(level: int) -> None: ...
def next_logs() -> list[tuple[int, str, str, tuple[str, str, int, str] | None]] | None: ...
def logs_written(seconds: float) -> None: ...
def command(words: list[str], again: list[str]) -> tuple[int, str | None]: ...
def log_start(as_json: bool, fd: int | None = None) -> None: ...
def log_line(text: str) -> bool: ...
def log_flush(seconds: float) -> None: ...
def keep_stdout() -> int: ...
def stdout_is_terminal() -> bool: ...
def close() -> None: ...

@final
class Operation:
    """A call of the core under way."""

    def wait(self) -> Any: ...
    def wait_for(self, seconds: float) -> bool: ...
    def wait_items(self) -> list[tuple[int, Record]] | None: ...
    def notify(self, callback: Callable[[], object]) -> bool: ...
    def abort(self) -> None: ...

@final
class Client:
    """A connection to where the jobs are."""

    @property
    def backend(self) -> str: ...
    def submit(self, jobs: list[NewJob]) -> Operation: ...
    def get(self, ids: list[str], detail: Literal["status", "result", "full"]) -> Operation: ...
    def wait(self, ids: list[str], timeout: Seconds | None = None) -> Operation: ...
    def cancel(self, id: str) -> Operation: ...
    def cancel_many(self, status_name: str | None, **which: Unpack[RecordFilter]) -> Operation: ...
    def redrive(self, id: str) -> Operation: ...
    def redrive_dead(self, limit: int, *, queue: str | None = None) -> Operation: ...
    def list(
        self, status_name: str | None, *, dead: bool, limit: int, **which: Unpack[RecordFilter]
    ) -> Operation: ...
    def purge(self, status_name: str, older_than: Seconds, *, queue: str | None = None) -> Operation: ...
    def set_paused(self, queue: str, paused: bool) -> Operation: ...
    def stats(self) -> Operation: ...
    def ping(self) -> Operation: ...
    def check(self) -> Operation: ...
    def sql(self, query: str) -> Operation: ...
    def close(self) -> Operation: ...
    def advance(self, seconds: float) -> None: ...
    def now(self) -> int: ...

@final
class Records:
    """The records of a table on AWS, in builds that have it."""

    def get(self, id: str) -> Operation: ...
    def put(self, id: str, status: str, value: Any, request_id: str | None, ttl: Seconds) -> Operation: ...

@final
class NewJob:
    """A job to submit: a body, and its options, which are checked at once.

    ``request_id``: your correlation id (default: the job's id). ``idempotency_key``: a second
    submit with this key finds the first job, as long as that is not over and for
    ``idempotency_window`` (default: 24 hours) at least; with another body it is refused.
    ``queue``: where the job waits (default: ``default``).
    ``task``: which task it is, where a worker serves several (default: no name).
    ``group``: jobs of one group run one at a time, in order. ``delay``: how long to
    hold the job back (default: 0).
    ``max_attempts``: default 3. ``timeout``: how long one attempt may run (default: no limit).
    ``start_within``: end the job as ``ERROR``, of the kind ``expired``, if no handler has been given it
    this long after its submit (default: no limit). ``drop_body``: delete the body when the job succeeds.
    ``result_ttl``: how long the record is kept after the end (default: 7 days). ``metadata``:
    your labels. ``webhook``: a URL to which a server posts the end, or a mapping with ``url`` and
    ``events``, a list of ``ended``, ``attempt_failed`` and ``progress`` (default: none). Lengths of time
    are seconds or ``timedelta``, at most 366 days; texts have at most 1 KiB.

    Raises ``InvalidJSONError`` and ``InvalidArgumentError``.
    """

    def __new__(
        cls,
        body: Any,
        *,
        request_id: str | None = None,
        idempotency_key: str | None = None,
        idempotency_window: Seconds | None = None,
        queue: str | None = None,
        task: str | None = None,
        group: str | None = None,
        delay: Seconds | None = None,
        max_attempts: int | None = None,
        timeout: Seconds | None = None,
        start_within: Seconds | None = None,
        result_ttl: Seconds | None = None,
        drop_body: bool = False,
        metadata: Mapping[str, str] | None = None,
        webhook: str | Mapping[str, Any] | None = None,
    ) -> NewJob: ...

@final
class Attempt:
    """One attempt of a job."""

    @property
    def number(self) -> int:
        """Its number: ``Record.attempt`` at the time."""
    @property
    def worker(self) -> str | None:
        """Who ran it."""
    @property
    def slot(self) -> str | None:
        """In which of its slots, where these differ; see ``Record.slot``."""
    @property
    def started_at(self) -> datetime:
        """When it was claimed."""
    @property
    def ended_at(self) -> datetime | None:
        """When it was over; ``None`` while it is not."""
    @property
    def error(self) -> str | None:
        """Why it ended without a result, in its last 1 KiB; ``None`` after a success, while it runs,
        and where it was given back without a word."""
    @property
    def error_kind(self) -> str | None:
        """The kind of that error; see ``JobFailedError.kind``."""
    @property
    def error_type(self) -> str | None:
        """The type of the exception that the handler raised, such as ``ValueError`` or
        ``torch.OutOfMemoryError``, where it is known."""

@final
class Record:
    """What is known of a job, as it was when somebody looked."""

    @property
    def id(self) -> str:
        """The job's id."""
    @property
    def status(self) -> Status:
        """Where the job is in its life."""
    @property
    def attempt(self) -> int:
        """How many times it has been claimed; 0 before the first."""
    @property
    def uncounted(self) -> int:
        """How many of these attempts do not count: they were given back, or came before a redrive."""
    @property
    def max_attempts(self) -> int:
        """How many attempts that count it has."""
    @property
    def request_id(self) -> str:
        """The caller's correlation id; the job's id where none was given."""
    @property
    def queue(self) -> str:
        """The queue in which it waits, or waited."""
    @property
    def task(self) -> str | None:
        """The task that it names."""
    @property
    def group(self) -> str | None:
        """The group in which it runs in order."""
    @property
    def metadata(self) -> dict[str, str]:
        """The caller's labels."""
    @property
    def timeout(self) -> float | None:
        """How long an attempt may run, in seconds."""
    @property
    def start_within(self) -> float | None:
        """How long after its submit it had to be started, in seconds."""
    @property
    def webhook(self) -> dict[str, Any] | None:
        """The ``url`` that is told what becomes of the job, without its query, and of which ``events``."""
    @property
    def drop_body(self) -> bool:
        """Whether its success forgets the body."""
    @property
    def result_ttl(self) -> float:
        """How long the record is kept after the end, in seconds."""
    @property
    def worker(self) -> str | None:
        """The worker that holds it, or held it last."""
    @property
    def slot(self) -> str | None:
        """The slot of that worker in which it runs, or ran last, where each has a GPU of its own:
        ``slot 3, GPU 1``."""
    @property
    def dead(self) -> bool:
        """Whether it is a dead letter: in ``ERROR``, its attempts used up."""
    @property
    def cancel_requested(self) -> bool:
        """Whether somebody wants it cancelled while it runs."""
    @property
    def error(self) -> str | None:
        """The error of the latest attempt that failed."""
    @property
    def error_kind(self) -> str | None:
        """The kind of that error; see ``JobFailedError.kind``."""
    @property
    def error_type(self) -> str | None:
        """The type of the exception that the handler raised, such as ``ValueError`` or
        ``torch.OutOfMemoryError``, where it is known."""
    @property
    def progress(self) -> Progress | None:
        """What the handler said of its progress."""
    @property
    def checkpoint(self) -> Any:
        """What an attempt has left for the next one, where the body was fetched, too."""
    @property
    def attempts(self) -> list[Attempt]:
        """The last ten attempts, the latest at the end, where the body was fetched, too."""
    @property
    def submitted_at(self) -> datetime:
        """When the submit was accepted, in UTC like the other moments."""
    @property
    def started_at(self) -> datetime | None:
        """When the latest attempt was claimed."""
    @property
    def finished_at(self) -> datetime | None:
        """When the job ended."""
    @property
    def due_at(self) -> datetime | None:
        """While it waits: from when on it may be claimed; while it runs: the end of the lease."""
    @property
    def expires_at(self) -> datetime | None:
        """From when on the record reads as expired."""
    @property
    def body(self) -> Any:
        """The body, where it was asked for; ``None`` also after a success with ``drop_body``."""
    @property
    def result(self) -> Any:
        """The result.

        Raises ``JobFailedError``, ``JobCancelledError`` or ``NotFinishedError`` where there is none.
        """
    def to_dict(self) -> dict[str, Any]:
        """All of it, as plain values: the JSON of ``haulage show --json``."""
    def to_json(self) -> str:
        """The same, as text."""
    @staticmethod
    def from_json(json: str) -> Record:
        """The record that ``to_json`` has written; ``InvalidJSONError`` where it is none."""
    def __iter__(self) -> Iterator[tuple[str, Any]]: ...

@final
class Context:
    """What surrounds one attempt at a job."""

    @property
    def job_id(self) -> str:
        """The job's id."""
    @property
    def request_id(self) -> str:
        """The caller's correlation id; the job's id where none was given."""
    @property
    def attempt(self) -> int:
        """Which attempt this is: 1, 2, …; it never repeats."""
    @property
    def max_attempts(self) -> int:
        """How many attempts that count the job has."""
    @property
    def is_last_attempt(self) -> bool:
        """Whether a failure of this attempt is the end of the job."""
    @property
    def metadata(self) -> dict[str, str]:
        """The caller's labels."""
    @property
    def queue(self) -> str:
        """The queue from which the job comes."""
    @property
    def task(self) -> str | None:
        """The task that the job names."""
    @property
    def group(self) -> str | None:
        """The group in which the job runs in order."""
    @property
    def submitted_at(self) -> datetime:
        """When the job was submitted."""
    @property
    def deadline(self) -> datetime | None:
        """When the job's ``timeout`` ends this attempt; ``None`` where it has none."""
    @property
    def cancelled(self) -> bool:
        """Whether the handler is to stop: the job was cancelled, its time is up, its claim is
        lost, or the worker is stopping. Look at it now and then."""
    def set_progress(self, fraction: float, message: str | None = None) -> None:
        """Tells how far the job is, from 0 to 1. Never waits; recorded within about a second."""
    def checkpoint(self, value: Any) -> None:
        """Leaves a JSON value of up to 64 KiB for the next attempt; it takes the place of the last.

        Never waits: recorded within about a second, and with the end of the attempt in any case.
        A success ends it. Raises ``InvalidJSONError`` or ``TooLargeError``.
        """
    @property
    def last_checkpoint(self) -> Any:
        """The newest checkpoint, of this attempt or an earlier one; ``None`` where there is none."""
    def checkpoint_json(self, json: str) -> None: ...
    def set_slot(self, name: str) -> None: ...
    @property
    def last_checkpoint_json(self) -> str | None: ...
    def cancellation(self, timeout: Seconds | None = None) -> Operation: ...
    def wait_cancelled(self, timeout: Seconds | None = None) -> bool:
        """Sleeps until the handler is to stop, or ``timeout`` seconds have passed; which of the two.

        For handlers in threads and processes. An ``async`` one need not ask: its task is cancelled.
        """

@final
class CallQueue:
    """Where threads take their calls."""

    def __new__(cls, max_threads: int, start_thread: Callable[[], object]) -> CallQueue: ...
    def take(self, fresh: bool) -> Call | None: ...
    def enter(self) -> None: ...
    def take_for(self, seconds: float) -> Call | None: ...
    def replace(self) -> None: ...
    def leave(self) -> None: ...
    def close(self) -> None: ...

@final
class Call:
    """One call of the handler."""

    def jobs(self) -> list[tuple[Any, Context]]: ...
    def texts(self) -> list[tuple[str, Context]]: ...
    def succeed(self, value: Any) -> None: ...
    def finish(self, answers: list[Answer]) -> None: ...
    def retry(self, message: str) -> bool: ...
    @property
    def is_unwanted(self) -> bool: ...
    @property
    def job_ids(self) -> list[str]: ...

@final
class Pages:
    """The pages of a worker over HTTP, from when this is made until it is closed."""

    def __new__(cls, http_listen: str, url: str) -> Pages: ...
    def close(self) -> None: ...

Verdict = Literal["go_on", "replace", "quarantine"]

def gpu_devices(gpus: str) -> list[str]: ...
def slot_environment(slot: int, device: str | None) -> list[tuple[str, str]]: ...
def slot_name(slot: int, device: str | None) -> str: ...
def is_out_of_memory(words: str) -> bool: ...

@final
class Health:
    """Whether the slots of a worker work, by what became of their jobs."""

    def __new__(cls, devices: list[str | None]) -> Health: ...
    def judge(
        self, slot: int, jobs: list[tuple[str, str, str]]
    ) -> tuple[Verdict, str, list[Literal["keep", "count", "put_back"]]]: ...
    def broke(self, slot: int) -> Verdict: ...
    def wait(self, slot: int) -> float: ...
    def back(self, slot: int) -> None: ...
    def still_out(self, slot: int) -> None: ...
    @property
    def all_out(self) -> bool: ...

@final
class Consumer:
    """A consumer, to be run once."""

    def __new__(
        cls, client: Client, queue: CallQueue, pages: Pages | None = None, **options: Any
    ) -> Consumer: ...
    def close(self) -> None: ...
    def run(self) -> Operation: ...
    def stop(self) -> None: ...
    def stop_now(self) -> None: ...
    def set_slot_names(self, names: list[str]) -> None: ...
    def quarantine(self, slot: int, reason: str) -> None: ...
    def restore(self, slot: int) -> None: ...
    def set_stuck(self, calls: int) -> None: ...
    @property
    def busy(self) -> int: ...
    @property
    def state(self) -> str: ...
    def signal_fd(self) -> int: ...
    def close_signal_fd(self) -> None: ...
