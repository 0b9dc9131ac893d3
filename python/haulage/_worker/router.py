"""From the name of a job's task to its function, in a worker that serves several."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import threading
from typing import TYPE_CHECKING, Any

from .. import _wait
from .._task import App, Task
from ..errors import InvalidArgumentError, Snooze

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._haulage import Context
    from .._options import WorkerOptions

_log = logging.getLogger("haulage.tasks")

# For how long a job is given back whose task is not served here, in seconds: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0

# Of how many unknown tasks the log tells. Producers choose the names.
_MOST_NAMES = 1000


def tasks_of(handler: Any) -> tuple[Task[..., Any], ...] | None:
    """The tasks that are to be served; ``None`` where the handler is a function like others."""
    if isinstance(handler, Task):
        one_task: Task[..., Any] = handler  # pyright: ignore[reportUnknownVariableType]
        return (one_task,)
    if isinstance(handler, App):
        return tuple(handler.tasks)
    if isinstance(handler, (list, tuple)):
        several: list[Any] = list(handler)  # pyright: ignore[reportUnknownArgumentType]
        for one in several:
            if not isinstance(one, Task):
                raise InvalidArgumentError(
                    f"{one!r} is not a task; a worker of several functions takes those under @haulage.task"
                )
        return tuple(several)
    return None


def options_of(handler: Any, tasks: Sequence[Task[..., Any]]) -> WorkerOptions:
    """What holds for a worker of these where nothing else is said: their queues, and an app's options."""
    queues = dict.fromkeys(task.options.get("queue") or "default" for task in tasks)
    options: WorkerOptions = {"queues": ",".join(queues)}
    if isinstance(handler, App):
        options.update(handler.options)
    return options


class Router:
    """Calls the task that a job names."""

    def __init__(self, tasks: Sequence[Task[..., Any]]) -> None:
        if not tasks:
            raise InvalidArgumentError("a worker needs one task at least, and there is none")
        self._tasks: dict[str, Task[..., Any]] = {}
        for task in tasks:
            other = self._tasks.setdefault(task.name, task)
            if other.function is not task.function:
                raise InvalidArgumentError(
                    f"two tasks are called {task.name}, {_where(other)} and {_where(task)}; give one of them "
                    "another name="
                )
            task._check_annotations()
        self.is_async = any(task.is_async for task in tasks)
        self._told: set[str | None] = set()

    @property
    def tasks(self) -> list[Task[..., Any]]:
        """What it serves."""
        return list(self._tasks.values())

    def call(self, body: Any, context: Context) -> Any:
        """Calls it with one job."""
        name = context.task
        task = self._tasks.get(name) if name is not None else self._only()
        if task is None:
            raise self._unknown(name, context.attempt)
        if self.is_async and not task.is_async:
            return _in_thread(functools.partial(task._call, body))
        return task._call(body)

    def _only(self) -> Task[..., Any] | None:
        return next(iter(self._tasks.values())) if len(self._tasks) == 1 else None

    def _unknown(self, name: str | None, attempt: int) -> Snooze:
        served = ", ".join(self._tasks)
        what = "it names no task" if name is None else f"its task {name} is not served here"
        if name not in self._told and len(self._told) < _MOST_NAMES:
            self._told.add(name)
            whose = "jobs that name no task" if name is None else f"jobs of the task {name}"
            _log.warning("%s are given back: this worker serves %s", whose, served)
        pause = min(_FIRST_PAUSE * 2.0 ** min(attempt - 1, 10), _LONGEST_PAUSE)
        return Snooze(pause, f"{what}: this worker serves {served}")


async def _in_thread(call: Callable[[], Any]) -> Any:
    """Makes a call that the others of the event loop need not wait for.

    To its end, also where it is cancelled: that is for the function to notice, as in other threads.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    result: Any = None
    wrong: BaseException | None = None

    def run() -> None:
        nonlocal result, wrong
        try:
            result = call()
        except BaseException as error:
            wrong = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_wait.resolve, ended)

    current = contextvars.copy_context()
    threading.Thread(target=current.run, args=(run,), name="haulage-task", daemon=True).start()
    while not ended.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(ended)
    if wrong is not None:
        raise wrong
    return result


def _where(task: Task[..., Any]) -> str:
    function: Callable[..., Any] = task.function
    return f"{function.__module__}.{function.__qualname__}"
