"""The options of jobs and workers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Callable, TypedDict, Union

from .errors import InvalidArgumentError

Seconds = Union[float, timedelta]


class TaskOptions(TypedDict, total=False):
    """How a job of a task is kept and run."""

    request_id: str | None
    """Your correlation id. Default: the job's id."""
    idempotency_key: str | None
    """A second submit with this key finds the first job, as long as that is not over, and within
    ``idempotency_window``; with another body it is refused. Default: none."""
    idempotency_window: Seconds | None
    """How long the key counts, even if the job ends sooner. Default: 24 hours."""
    queue: str | None
    """The queue in which the job waits. Default: ``default``."""
    group: str | None
    """Jobs of one group run one at a time, in order. Default: no group."""
    delay: Seconds | None
    """How long to hold the job back. Default: not at all."""
    max_attempts: int | None
    """How many attempts the job has, crashes of the worker included. Default: 3."""
    timeout: Seconds | None
    """How long one attempt may run. Default: no limit."""
    start_within: Seconds | None
    """End the job as ``ERROR``, of the kind ``expired``, if no handler has been given it this long after
    its submit. Default: no limit."""
    result_ttl: Seconds | None
    """How long the record is kept after the end; at least 14 days after an error. Default: 7 days."""
    drop_body: bool
    """Delete the body when the job succeeds. Default: it is kept as long as the record."""
    metadata: Mapping[str, str] | None
    """Your labels, kept with the record and shown to the handler."""
    webhook: str | Mapping[str, Any] | None
    """A URL to which a server (``haulage serve``) posts the end, or a mapping with ``url`` and ``events``,
    a list of ``ended``, ``attempt_failed`` and ``progress``. Default: none."""


class JobOptions(TaskOptions, total=False):
    """How a job is kept and run."""

    task: str | None
    """Which task it is, where a worker serves several. Default: no name."""


class RecordFilter(TypedDict, total=False):
    """Which records: those for which everything that is given holds."""

    queue: str | None
    """Only jobs of this queue."""
    task: str | None
    """Only jobs of this task."""
    group: str | None
    """Only jobs of this group."""
    request_id: str | None
    """Only jobs with this request id."""
    metadata: Mapping[str, str] | None
    """Only jobs with all of these labels."""
    error: str | None
    """Only jobs whose error has this in its text, or is of this kind or type; one of an earlier attempt
    counts."""
    older_than: Seconds | None
    """Only jobs that were submitted this long ago, or longer."""
    newer_than: Seconds | None
    """Only jobs that were submitted less than this long ago."""
    before: str | None
    """Only jobs that were submitted before the one with this id: for the next page."""


class WorkerOptions(TypedDict, total=False):
    """How a worker works."""

    concurrency: int
    """How many calls of the handler run at once, in threads (or tasks, if it is async). Default: 1."""
    processes: int
    """How many child processes run the handler, one call each. Default: 0, threads of this process."""
    gpus: str | Sequence[int | str] | None
    """The GPUs to work on: ``all``, or numbers such as ``0,2``. Each has child processes of its own, which
    see no other: ``CUDA_VISIBLE_DEVICES``, ``HIP_VISIBLE_DEVICES`` and ``HAULAGE_GPU`` are set before they
    import anything. Default: none."""
    slots_per_gpu: int
    """How many child processes each of the GPUs has. Default: 1."""
    max_jobs_per_child: int | None
    """After so many calls a child process is replaced; the next one loads while the last call runs.
    Default: no limit."""
    max_memory_per_child: int | None
    """A child process that has more bytes in memory after a call is replaced, once the next one has
    loaded. Linux only. Default: no limit."""
    max_device_memory_per_child: int | None
    """With ``gpus``, a child process that holds more bytes of its GPU's memory after a call is replaced, once
    the next one has loaded. It is ``nvidia-smi`` that says what it holds. Default: no limit."""
    child_timeout: Seconds | None
    """How long a child process may take to load the handler; to be said by whoever starts the worker, where
    only the children import what ``@worker`` says. Default: no limit."""
    health_check: str | None
    """A command that is to succeed before a slot that does not work takes jobs again; it sees the slot's GPU
    alone, and has a minute. Default: a child process that loads the handler is enough."""
    quarantine_limit: Seconds
    """For how long no slot may work until the worker ends, the command line with code 75. Default: 5 min."""
    queues: str | Sequence[str] | Mapping[str, int] | None
    """The queues to serve: a list of names, in order of preference (each tenth job comes from one of
    the others, so that none waits for good), or a mapping of names to weights; or a text like
    ``interactive,bulk`` or ``interactive=6,bulk=1``. Default: ``default`` alone."""
    max_batch_size: int | None
    """Up to how many jobs a call takes; with it, the handler takes and returns lists. Default: no batches."""
    batch_weight: Callable[[Any], float] | None
    """What a job counts for, of its body, parsed: ``lambda body: len(body["tokens"])``. With it goes
    ``max_batch_weight``. Default: each job counts for nothing."""
    max_batch_weight: float | None
    """The jobs of a call are handed over in parts of this weight at most, one after the other, similar
    weights together; a job that is heavier goes alone. Default: no limit."""
    batch_key: Callable[[Any], Any] | None
    """Only jobs with the same key, of the body, are handed over together. Default: all of a call."""
    batch_timeout: Seconds
    """How long a batch's first job waits for the batch to fill. Default: 0, what came in together."""
    lease: Seconds
    """How long a claim lives without a heartbeat. Default: 30 s."""
    heartbeat_interval: Seconds | None
    """How often to heartbeat. Default: a third of the lease."""
    claim_wait: Seconds
    """How long one request for jobs waits for the first. Default: 20 s."""
    shutdown_grace_period: Seconds
    """How long running jobs may go on when the worker stops. Default: 30 s."""
    cancel_grace_period: Seconds
    """How long a handler may take to stop when its job is cancelled. Default: 5 s."""
    retry_base: Seconds
    """The longest wait after the first failure; it doubles with each. Default: 1 s."""
    retry_cap: Seconds
    """The longest wait after any failure. Default: 5 min."""
    until_empty: bool
    """Ends by itself when no job waits or runs any more; jobs with a delay and retries are waited
    for. Default: False."""
    max_jobs: int | None
    """Ends by itself when this many jobs have ended here, failed attempts among them. Default: no limit."""
    worker_name: str | None
    """The worker's name in the records. Default: host and process id."""
    http_listen: str | None
    """Address for ``/metrics``, ``/health``, ``/ready`` and ``/busy``, such as ``127.0.0.1:9464``,
    from the worker's start on; by ``@worker`` alone, from the import on. Default: none."""
    cluster_name: str | None
    """Writes metrics for CloudWatch to stdout, a line a minute, as those of a service in this ECS
    cluster. Default: the environment variable ``HAULAGE_CLUSTER_NAME``, else no metrics."""
    service_name: str | None
    """The ECS service whose metrics these are. Default: ``HAULAGE_SERVICE_NAME``."""
    non_retryable: tuple[type[BaseException], ...]
    """Exceptions that fail the job for good. Default: none but ``Fail``."""
    on_start: Callable[[], Any] | None
    """Called once before the first job, in each process that runs jobs. Default: nothing."""


class Summary(TypedDict):
    """How the claims of a worker ended, in numbers."""

    succeeded: int
    retried: int
    failed: int
    cancelled: int
    released: int
    lost: int


# How a call of several jobs is divided.
OF_BATCHES = ("batch_weight", "max_batch_weight", "batch_key")

# What the workers of this package look after; the rest is the core's.
OF_CHILDREN = frozenset(
    {
        "slots_per_gpu",
        "max_jobs_per_child",
        "max_memory_per_child",
        "max_device_memory_per_child",
        "child_timeout",
        "health_check",
        "quarantine_limit",
    }
)
OF_GPUS = frozenset({"slots_per_gpu", "max_device_memory_per_child"})
_OWN = OF_CHILDREN | {
    *OF_BATCHES,
    "concurrency",
    "processes",
    "gpus",
    "http_listen",
    "non_retryable",
    "on_start",
}
CORE = frozenset(WorkerOptions.__annotations__) - _OWN


def check_options(options: WorkerOptions) -> None:
    """Refuses what no worker knows, and what would be noticed late."""
    for name in options:
        if name not in WorkerOptions.__annotations__:
            known = ", ".join(sorted(WorkerOptions.__annotations__))
            raise InvalidArgumentError(f"a worker has no option {name}; it knows {known}")
    for name, count, least in (
        ("concurrency", options.get("concurrency", 1), 1),
        ("processes", options.get("processes", 0), 0),
        ("slots_per_gpu", options.get("slots_per_gpu", 1), 1),
        ("max_jobs_per_child", options.get("max_jobs_per_child") or 1, 1),
        ("max_memory_per_child", options.get("max_memory_per_child") or 1, 1),
        ("max_device_memory_per_child", options.get("max_device_memory_per_child") or 1, 1),
    ):
        if not isinstance(count, int) or count < least:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidArgumentError(f"{name} is {count!r}; it is a whole number, {least} at least")
    if in_children(options) and options.get("concurrency", 1) != 1:
        raise InvalidArgumentError(
            "give concurrency, for threads, or processes or gpus, but not both: "
            "a process runs one call at a time"
        )
    if options.get("processes") and options.get("gpus") is not None:
        raise InvalidArgumentError(
            "give processes, or gpus with slots_per_gpu, which says how many there are, but not both"
        )
    check = options.get("health_check")
    if check is not None and not _is_command(check):
        raise InvalidArgumentError(
            f"health_check is {check!r}; it is a command, with its words quoted as in a shell"
        )
    errors = options.get("non_retryable")
    if errors is not None and not _are_exceptions(errors):  # pyright: ignore[reportUnnecessaryComparison]
        raise InvalidArgumentError(
            f"non_retryable is {errors!r}; it is a tuple of classes of exceptions, like (ValueError,)"
        )


def in_children(options: WorkerOptions) -> bool:
    """Whether child processes run the jobs."""
    return bool(options.get("processes")) or options.get("gpus") is not None


def _is_command(line: str) -> bool:
    try:
        return bool(shlex.split(line))
    except ValueError:
        return False


def _are_exceptions(errors: Any) -> bool:
    if not isinstance(errors, (tuple, list, set, frozenset)):
        return False
    classes: list[Any] = list(errors)  # pyright: ignore[reportUnknownArgumentType]
    return all(isinstance(one, type) and issubclass(one, BaseException) for one in classes)


def seconds(time: float | timedelta | None) -> float | None:
    """A length of time in seconds."""
    return time.total_seconds() if isinstance(time, timedelta) else time
