"""The consumer's side: workers that run a function on jobs."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union, overload

from .. import _haulage, _log
from .._client import Client, connect, default_url
from .._options import (
    CORE,
    OF_BATCHES,
    OF_CHILDREN,
    OF_GPUS,
    WorkerOptions,
    check_options,
    in_children,
    seconds,
)
from ..errors import InvalidArgumentError, WorkerBroken
from .batch import Sorting
from .handler import Signature
from .load import load, load_handler
from .router import Router, options_of, tasks_of
from .run import Run
from .running import Place
from .signals import heard
from .threads import Tasks, Threads, batch, single

R = TypeVar("R")
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from typing_extensions import ParamSpec, Self, Unpack

    from .._options import Summary
    from .._task import App, Task
    from .processes import Processes
    from .threads import NonRetryable

    P = ParamSpec("P")
    Handler = Union[Callable[..., Any], Sequence[Task[..., Any]], App, str]
else:
    # Python 3.9 has no `ParamSpec`; only type checkers need one.
    P = TypeVar("P")


def resolved(handler: Any, options: WorkerOptions) -> tuple[Signature | Router, WorkerOptions]:
    """What runs the jobs: a function, maybe under ``@worker``, or tasks; and all options."""
    check_options(options)
    tasks = tasks_of(handler)
    if tasks is not None:
        merged = _merged(options_of(handler, tasks), options)
        for name in ("max_batch_size", *OF_BATCHES):
            if merged.get(name) is not None:
                raise InvalidArgumentError(
                    f"a task's function takes the arguments of one job, so {name} means nothing to it; "
                    "for batches use @haulage.worker"
                )
        return Router(tasks), merged
    if isinstance(handler, WorkerFunction):
        known: WorkerFunction[..., Any] = handler  # pyright: ignore[reportUnknownVariableType]
        handler, options = known.function, _merged(known.options, options)
    batched = options.get("max_batch_size") is not None
    for name in OF_BATCHES:
        if options.get(name) is not None and not batched:
            raise InvalidArgumentError(f"{name} goes with max_batch_size, and there is none")
    Sorting(options)
    signature = Signature(handler)
    signature.parse_bodies(batched)
    return signature, options


def _merged(known: WorkerOptions, options: WorkerOptions) -> WorkerOptions:
    merged = known.copy()
    # Threads or processes: what is said later says which.
    if in_children(options):
        merged.pop("concurrency", None)
        merged.pop("processes", None)
        merged.pop("gpus", None)
    elif "concurrency" in options:
        merged.pop("processes", None)
        merged.pop("gpus", None)
    merged.update(options)
    return merged


class Worker:
    """Runs a function on the jobs of a queue.

    ``handler`` is the function, or its name, ``package.module:function``; or a list of tasks, an
    ``App``, or the name of a module, whose tasks it is then. A function takes the body, parsed where
    its annotation is a dataclass or a pydantic model, and returns the result; by parameters called
    ``job_id`` and ``ctx`` it also gets the job's id and its ``Context``. It may be ``async``. With
    ``max_batch_size`` it takes a list of bodies, and returns as many results.

    An exception means that the attempt failed: it is tried again with backoff, until the
    job's attempts are used up. ``Fail`` ends the job, ``Retry`` names the wait. The
    options are those of ``WorkerOptions``; those of ``@worker`` hold where none is given.

    A name is imported when the worker starts. With ``http_listen``, the worker answers there
    before that; where only ``@worker`` says so, after it.
    """

    def __init__(
        self,
        handler: Handler,
        client: Client | str | None = None,
        **options: Unpack[WorkerOptions],
    ) -> None:
        check_options(options)
        self._handler, self._given = handler, options
        self._options, self._processes = options, in_children(options)
        # What there is to say of child processes, by whoever says it.
        self._children_options = options
        self._http_listen = options.get("http_listen")
        self._target: str | list[str] | None = None
        if isinstance(handler, str):
            if self._processes:
                # Only the children load it.
                self._in_processes(handler)
        else:
            self._use(handler)
        self._client = client
        self._non_retryable: NonRetryable = lambda: tuple(self._options.get("non_retryable") or ())
        self._lock = threading.Lock()
        self._now: Run | None = None
        self._broken: str | None = None

    def _use(self, handler: Any) -> None:
        signature, merged = resolved(handler, self._given)
        self._http_listen = merged.get("http_listen")
        self._processes, self._children_options = in_children(merged), merged
        if not self._processes:
            self._signature, self._options = signature, merged
        elif isinstance(self._handler, str):
            self._in_processes(self._handler)
        elif isinstance(signature, Router):
            # The children know nothing of an app whose tasks these are.
            self._options = merged
            self._in_processes([_path(task) for task in signature.tasks])
        else:
            self._in_processes(_path(handler))

    def _in_processes(self, target: str | list[str]) -> None:
        if self._options.get("non_retryable"):
            raise InvalidArgumentError(
                "with processes, give non_retryable to @worker, or name the app as module:app"
            )
        for name in OF_BATCHES:
            if self._options.get(name) is not None:
                raise InvalidArgumentError(f"with processes, give {name} to @worker")
        # The children say what the other options of `@worker` are.
        self._target = target

    def _connect(self) -> Client:
        if not isinstance(self._client, Client):
            self._client = connect(self._client)
        return self._client

    def _runner(self, concurrency: int, place: Place) -> Threads | Tasks:
        options, signature = self._options, self._signature
        sorting = Sorting(options) if options.get("max_batch_size") is not None else None
        if signature.is_async:
            give_up, now = self._give_up, self._give_up_now
            return Tasks(concurrency, signature, sorting, self._non_retryable, give_up, now, place)
        if sorting is not None and isinstance(signature, Signature):
            run = batch(signature, sorting, self._non_retryable, self._give_up, place)
        else:
            run = single(signature, self._non_retryable, self._give_up, place)
        return Threads(concurrency, run, self._give_up)

    def _give_up(self, why: str) -> None:
        """Has the worker end, as it cannot work."""
        self._broken = self._broken or why
        run = self._now
        if run is not None:
            run.consumer.stop()

    def _give_up_now(self, why: str) -> None:
        """The same, where nothing that runs can come to its end."""
        self._give_up(why)
        self.stop_now()

    def set_non_retryable(self, errors: NonRetryable) -> None:
        """Has a function asked, at each failure, which exceptions fail a job for good."""
        self._non_retryable = errors

    def start(self) -> None:
        """Works in the background, until ``stop``, its own end, or that of the program."""
        self._launch(*self._prepared())

    def _prepared(self) -> tuple[Threads | Tasks | Processes, _haulage.Consumer]:
        """Everything that comes before the first claim."""
        self._broken = None
        run = self._now
        if run is not None:
            if not run.has_ended:
                raise InvalidArgumentError("the worker runs already")
            # It came to its end by itself.
            self._finished(run)
        _log.refresh()
        with contextlib.ExitStack() as undo:
            # What follows may take minutes, in which health checks are to find the worker.
            pages = self._listen(self._http_listen, undo)
            if isinstance(self._handler, str) and self._target is None:
                self._use(load_handler(self._handler))
            client = self._connect()
            options: dict[str, Any] = {**self._options}
            runner: Threads | Tasks | Processes
            if self._target is not None:
                runner = self._children(self._target, client.url)
                undo.callback(runner.close)
                options = {**runner.load(), **options}
                runner.max_jobs = options.get("max_jobs_per_child")
                runner.max_memory = options.get("max_memory_per_child")
                device_memory = options.get("max_device_memory_per_child")
                if device_memory is not None:
                    runner.limit_device_memory(device_memory)
                runner.health_check = shlex.split(options.get("health_check") or "")
                limit = seconds(options.get("quarantine_limit"))
                runner.quarantine_limit = runner.quarantine_limit if limit is None else limit
                concurrency: int = runner.slots
            else:
                concurrency = options.get("concurrency", 1)
                runner = self._runner(concurrency, Place(client.url, concurrency, client._core))
                undo.callback(runner.close)
            core = {name: value for name, value in options.items() if name in CORE}
            if pages is None:
                pages = self._listen(options.get("http_listen"), undo)
            for name in ("cluster_name", "service_name"):
                core.setdefault(name, os.environ.get(f"HAULAGE_{name.upper()}") or None)
            if self._target is None:
                for name in sorted(OF_CHILDREN & options.keys()):
                    if options[name] is not None:
                        what = "gpus" if name in OF_GPUS else "processes or gpus"
                        raise InvalidArgumentError(f"{name} goes with {what}, and there are none")
            consumer = _haulage.Consumer(
                client._core, runner.queue, pages, url=client.url, concurrency=concurrency, **core
            )
            runner.serve(consumer, seconds(options.get("cancel_grace_period")))
            on_start = options.get("on_start")
            if self._target is None and on_start is not None:
                (load(on_start) if isinstance(on_start, str) else on_start)()
            undo.pop_all()
        return runner, consumer

    def _listen(self, http_listen: str | None, undo: contextlib.ExitStack) -> _haulage.Pages | None:
        if http_listen is None:
            return None
        client = self._client
        url = client.url if isinstance(client, Client) else default_url() if client is None else client
        pages = _haulage.Pages(http_listen, url)
        undo.callback(pages.close)
        return pages

    def _launch(self, runner: Threads | Tasks | Processes, consumer: _haulage.Consumer) -> Run:
        with self._lock:
            if self._now is None:
                self._now = Run(runner, consumer)
                if self._broken is not None:
                    consumer.stop()
                return self._now
        _close_both(runner, consumer)
        raise InvalidArgumentError("the worker runs already")

    def _children(self, target: str | list[str], url: str) -> Processes:
        from .process import Loaded
        from .processes import Processes

        on_start = self._options.get("on_start")
        options = self._children_options
        gpus = options.get("gpus")
        devices: list[str | None] = [None] * options.get("processes", 0)
        if gpus is not None:
            named = gpus if isinstance(gpus, str) else ",".join(map(str, gpus))
            # Each device once before any has its second.
            devices = [*_haulage.gpu_devices(named)] * options.get("slots_per_gpu", 1)
        return Processes(
            Loaded(
                target,
                on_start if on_start is None or isinstance(on_start, str) else _path(on_start),
                self._options.get("max_batch_size"),
                seconds(options.get("child_timeout")),
                url,
                len(devices),
            ),
            devices,
            self._give_up,
        )

    def stop(self, timeout: float | None = None) -> Summary | None:
        """Stops claiming, waits until what runs is done, and tells how the claims ended.

        Jobs that take longer than ``shutdown_grace_period`` are given back. ``None`` where the
        worker does not run, or still stops after ``timeout`` seconds (default: no limit).
        """
        run = self._now
        if run is None:
            return None
        run.consumer.stop()
        return self._finished(run, timeout)

    def _finished(self, run: Run, timeout: float | None = None) -> Summary | None:
        try:
            summary = run.wait(timeout)
        except BaseException:
            self._forget(run)
            raise
        if summary is not None:
            self._forget(run)
        return summary

    def _forget(self, run: Run) -> None:
        with self._lock:
            # Another may have begun since.
            if self._now is run:
                self._now = None

    def stop_now(self) -> None:
        """Gives everything back at once; to be followed by ``stop``."""
        run = self._now
        if run is not None:
            run.consumer.stop_now()

    @property
    def is_running(self) -> bool:
        """Whether it works."""
        run = self._now
        return run is not None and not run.has_ended

    @property
    def busy(self) -> int:
        """How many jobs it holds."""
        run = self._now
        return 0 if run is None else run.consumer.busy

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(
        self, *, handle_signals: bool = True, on_signal: Callable[[int], object] | None = None
    ) -> Summary:
        """Works until it is told to stop, or ends by itself, and tells how the claims ended.

        In the main thread, SIGTERM, SIGHUP and Ctrl-C stop it: the first finishes what runs within
        ``shutdown_grace_period``, the second gives everything back at once. ``on_signal`` is
        told of each.
        """
        runner, consumer = self._prepared()
        if handle_signals and threading.current_thread() is threading.main_thread():
            # Before the first claim: from then on, no signal may end the process as it is.
            with heard(consumer, on_signal):
                summary = self._finished(self._launch(runner, consumer))
        else:
            summary = self._finished(self._launch(runner, consumer))
        assert summary is not None, "it was waited for without a timeout"
        return self._unbroken(summary)

    def _unbroken(self, summary: Summary) -> Summary:
        broken, self._broken = self._broken, None
        if broken is not None:
            raise WorkerBroken(broken)
        return summary

    async def run_async(self) -> Summary:
        """Like ``run``, in an event loop; cancel the task to stop it.

        Cancelled once, it finishes what runs within ``shutdown_grace_period``; cancelled again
        meanwhile, it gives everything back at once. ``on_start`` is called in a thread.
        """
        import asyncio

        # In a thread: to connect and to load a model in children takes its time.
        preparing = asyncio.ensure_future(asyncio.to_thread(self._prepared))
        try:
            runner, consumer = await asyncio.shield(preparing)
        except asyncio.CancelledError:
            preparing.add_done_callback(_unwanted)
            raise
        run = self._launch(runner, consumer)
        try:
            summary = await run.wait_async()
        finally:
            self._forget(run)
        return self._unbroken(summary)


def _unwanted(preparing: asyncio.Future[tuple[Threads | Tasks | Processes, _haulage.Consumer]]) -> None:
    if not preparing.cancelled() and preparing.exception() is None:
        # In a thread, as it waits for children.
        threading.Thread(target=_close_both, args=preparing.result(), name="haulage-close").start()


def _close_both(runner: Threads | Tasks | Processes, consumer: _haulage.Consumer) -> None:
    runner.close()
    consumer.close()


def _path(function: Callable[..., Any]) -> str:
    """The name by which a child process finds a function."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "<locals>")
    if module in (None, "__main__") or "<" in name:
        raise InvalidArgumentError(
            f"a child process cannot import {function!r}; put it at the top of a module, and name it "
            "as package.module:function"
        )
    return f"{module}:{name}"


class WorkerFunction(Generic[P, R]):
    """A function with the options of a worker; still callable as the function that it is."""

    __name__: str

    def __init__(self, function: Callable[P, R], options: WorkerOptions) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        """The function."""
        self.options = options
        """The options given to ``@worker``."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def worker(self, client: Client | str | None = None, **options: Unpack[WorkerOptions]) -> Worker:
        """A worker for it."""
        return Worker(self, client, **options)

    def run(self, client: Client | str | None = None, **options: Unpack[WorkerOptions]) -> Summary:
        """Works until it is told to stop; see ``Worker.run``."""
        return self.worker(client, **options).run()


@overload
def worker(function: Callable[P, R], /) -> WorkerFunction[P, R]: ...
@overload
def worker(
    **options: Unpack[WorkerOptions],
) -> Callable[[Callable[P, R]], WorkerFunction[P, R]]: ...
def worker(function: Callable[..., Any] | None = None, /, **options: Unpack[WorkerOptions]) -> Any:
    """Makes a function a worker's handler, with these options; see ``Worker``.

    ``@worker`` and ``@worker(concurrency=4)`` both work; ``python -m haulage worker --python
    module:function`` runs it.
    """
    check_options(options)
    if function is not None:
        Signature(function)
        return WorkerFunction(function, options)
    return functools.partial(_decorate, options)


def _decorate(options: WorkerOptions, function: Callable[..., Any]) -> WorkerFunction[..., Any]:
    Signature(function)
    return WorkerFunction(function, options)
