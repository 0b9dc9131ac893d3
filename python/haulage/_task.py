"""Named tasks: functions that are submitted by calls, and routed by their names."""

from __future__ import annotations

import functools
import json
import os
import threading
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

from . import _haulage
from ._client import Client, connect, default_url
from ._haulage import NewJob
from ._job import JobHandle
from ._parse import Fields, Unfit, evaluated, parser
from ._worker.handler import is_async
from .errors import InvalidArgumentError, ResultTypeError

R = TypeVar("R")
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
    from typing import Literal

    from typing_extensions import Concatenate, ParamSpec, Self, Unpack

    from ._options import Seconds, TaskOptions, WorkerOptions
    from ._parse import Parse

    A = TypeVar("A")
    P = ParamSpec("P")
    Q = ParamSpec("Q")
else:
    # Python 3.9 has no `ParamSpec`; only type checkers need one.
    P = TypeVar("P")

_clients: dict[str, Client] = {}
_connecting = threading.Lock()


def _after_fork() -> None:
    # The child connects for itself, and another thread may have held the lock.
    global _clients, _connecting
    _clients, _connecting = {}, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _default_client() -> Client:
    """The client of tasks that were given none: one for each URL, made once."""
    url = default_url()
    with _connecting:
        if url not in _clients:
            _clients[url] = connect(url)
        return _clients[url]


class _Form:
    """What a task's function takes and returns."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        import inspect

        self._function = function
        self._name = name
        self._signature = inspect.signature(function)
        self._rest: str | None = None
        for parameter in self._signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
                raise ValueError(
                    f"task {name} has the parameter {parameter}, which a caller cannot name; the arguments "
                    "of a job go by their names"
                )
            if parameter.kind is parameter.VAR_KEYWORD:
                self._rest = parameter.name

    def body(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call by their names; a ``TypeError`` where it could not be called so."""
        arguments = dict(self._signature.bind(*args, **kwargs).arguments)
        if self._rest is not None:
            arguments.update(arguments.pop(self._rest, {}))
        return arguments

    @functools.cached_property
    def arguments(self) -> Fields:
        """What makes arguments of a body."""
        fields = Fields(f"task {self._name}")
        for name, parameter in self._signature.parameters.items():
            parse = self._parser(name, parameter.annotation, parameter.empty)
            if name == self._rest:
                fields.others = lambda _, value, parse=parse: value if parse is None else parse(value)
                continue
            fields.items[name] = parse
            if parameter.default is parameter.empty:
                fields.required.add(name)
        return fields

    @functools.cached_property
    def returns(self) -> Parse | None:
        """What makes the value that the function returned of a result."""
        signature = self._signature
        return self._parser("its result", signature.return_annotation, signature.empty)

    def _parser(self, what: str, annotation: Any, empty: Any) -> Parse | None:
        if annotation is empty:
            return None
        try:
            return parser(evaluated(annotation, self._function))
        except Exception as error:
            raise InvalidArgumentError(
                f"task {self._name}: the annotation of {what}, {annotation!r}, cannot be evaluated: "
                f"{type(error).__name__}: {error}; import what it names at run time, too, or leave it out"
            ) from error


class Task(Generic[P, R]):
    """A function whose calls can be jobs. Made by ``@task``.

    Called, it is the function. ``submit`` makes the call a job, whose body is an object of the
    arguments by their names. A worker that serves the task, ``haulage.Worker([embed])`` or
    ``haulage worker --python module``, parses them into what the annotations say.
    """

    __name__: str

    def __init__(self, function: Callable[..., Any], name: str | None, options: TaskOptions) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        """The function."""
        self.name: str = function.__name__ if name is None else name
        """What jobs are routed by."""
        self.options = options
        """The options of its jobs."""
        self.is_async = is_async(function)
        """Whether the function is ``async``."""
        self._client: Client | None = None
        self._origin = self
        self._form = _Form(function, self.name)
        self._check()

    def _check(self) -> None:
        if "task" in self.options:
            raise InvalidArgumentError("the name of a task is given as name=, and not as task=")
        self._new_job(None)

    def _new_job(self, body: Any) -> NewJob:
        options: dict[str, Any] = {**self.options, "task": self.name}
        return NewJob(body, **options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the function, here and now."""
        return cast("R", self.function(*args, **kwargs))

    def using(self, client: Client | str | None = None, **options: Unpack[TaskOptions]) -> Self:
        """The same task with another client, or other options for its jobs.

        ``embed.using(delay=60, group="user-1").submit("a text")``. Default: the client and the
        options that it has.
        """
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        if client is not None:
            other._client = client if isinstance(client, Client) else connect(client)
        other.options = cast("TaskOptions", {**self.options, **options})
        other._check()
        return other

    @property
    def client(self) -> Client:
        """Where its jobs go. Default: ``haulage.connect()``, which is made once."""
        return _default_client() if self._client is None else self._client

    async def _client_async(self) -> Client:
        import asyncio

        client = self._client
        return await asyncio.to_thread(_default_client) if client is None else client

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Submits the call as a job; see ``Client.submit``. ``using`` gives it options."""
        client = self.client
        return client.submit(self._new_job(self._form.body(args, kwargs)))._of(self._origin)

    async def submit_async(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Like ``submit``, in an event loop."""
        job = self._new_job(self._form.body(args, kwargs))
        handle = await (await self._client_async()).submit_async(job)
        return handle._of(self._origin)

    @overload
    def map(
        self: Task[Concatenate[A, Q], R],
        items: Iterable[A],
        *,
        wait_timeout: Seconds | None = None,
        return_exceptions: Literal[False] = False,
        progress: bool = False,
    ) -> Iterator[R]: ...
    @overload
    def map(
        self: Task[Concatenate[A, Q], R],
        items: Iterable[A],
        *,
        wait_timeout: Seconds | None = None,
        return_exceptions: bool,
        progress: bool = False,
    ) -> Iterator[R | Exception]: ...
    def map(
        self,
        items: Iterable[Any],
        *,
        wait_timeout: Seconds | None = None,
        return_exceptions: bool = False,
        progress: bool = False,
    ) -> Iterator[Any]:
        """Submits a job for each item, its first argument, and yields their results in order.

        All at once; see ``Client.map``.
        """
        client = self.client
        handles = client.submit_many([self._new_job(self._form.body((item,), {})) for item in items])
        ended = client._results(handles, wait_timeout, return_exceptions, progress)
        return (self._one(*each, return_exceptions) for each in zip(handles, ended))

    @overload
    def map_async(
        self: Task[Concatenate[A, Q], R],
        items: Iterable[A],
        *,
        wait_timeout: Seconds | None = None,
        return_exceptions: Literal[False] = False,
    ) -> AsyncIterator[R]: ...
    @overload
    def map_async(
        self: Task[Concatenate[A, Q], R],
        items: Iterable[A],
        *,
        wait_timeout: Seconds | None = None,
        return_exceptions: bool,
    ) -> AsyncIterator[R | Exception]: ...
    async def map_async(
        self,
        items: Iterable[Any],
        *,
        wait_timeout: Seconds | None = None,
        return_exceptions: bool = False,
    ) -> AsyncIterator[Any]:
        """Like ``map``, in an event loop: ``async for result in embed.map_async(texts)``."""
        client = await self._client_async()
        jobs = [self._new_job(self._form.body((item,), {})) for item in items]
        handles = await client.submit_many_async(jobs)
        turn = iter(handles)
        async for result in client._results_async(handles, wait_timeout, return_exceptions):
            yield self._one(next(turn), result, return_exceptions)

    def _one(self, handle: JobHandle[Any], result: Any, return_exceptions: bool) -> Any:
        if isinstance(result, Exception):
            return result
        try:
            return self._returned(result, handle.id)
        except ResultTypeError as error:
            if not return_exceptions:
                raise
            return error

    def local(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the call here, in this thread, as a worker would; an ``async`` function to its end.

        Arguments and result go through JSON, so what cannot go through it is found out. There is no
        job: no record, no retries, and no ``current_job``. In an event loop, call an ``async``
        function itself.
        """
        body = json.loads(_haulage.dumps("the body", self._form.body(args, kwargs)))
        try:
            result = self._call(body)
        except Unfit as error:
            raise InvalidArgumentError(error.message("the body")) from None
        if self.is_async:
            import asyncio

            result = asyncio.run(result)
        return cast("R", self._returned(json.loads(_haulage.dumps("the result", result)), None))

    def _check_annotations(self) -> None:
        """Raises ``InvalidArgumentError`` where an annotation cannot be evaluated."""
        _ = self._form.arguments

    def _call(self, body: Any) -> Any:
        """Calls the function with the arguments of a job; raises ``Unfit`` where it has others."""
        return self.function(**self._form.arguments(body))

    def _returned(self, result: Any, job_id: str | None) -> Any:
        """What the function returned, of its JSON; ``ResultTypeError`` where it is something else."""
        parse = self._form.returns
        try:
            return result if parse is None else parse(result)
        except Unfit as error:
            words = f"{error.message('the result')}; that is not what task {self.name} says that it returns"
            wrong = ResultTypeError(words if job_id is None else f"job {job_id}: {words}")
            wrong.job_id = job_id or ""
            raise wrong from None

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self._origin is self:
            name: str = self.function.__qualname__
            return name
        return _again, (self._origin, self._client, self.options)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


class AsyncTask(Task[P, R]):
    """A task whose function is ``async``: a call of it has to be awaited. All else is as of ``Task``."""

    # A call of the function is what that gives; everything else gives what comes of it.
    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        """Calls the function, here and now."""
        return cast("R", await self.function(*args, **kwargs))


def _again(origin: Task[..., Any], client: Client | None, options: TaskOptions) -> Task[..., Any]:
    return origin.using(client, **options)


class _Decorator(Protocol):
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class _Maker:
    """Makes tasks of functions."""

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, *, name: str | None = None, **options: Unpack[TaskOptions]) -> _Decorator: ...
    def task(
        self,
        function: Any = None,
        *,
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> Any:
        """Makes a function a task: ``@haulage.task`` or ``@haulage.task(queue="gpu", max_attempts=5)``.

        ``name`` is what its jobs are routed by (default: the function's name); the rest are the options
        of its jobs, those of ``NewJob``. All of its parameters are arguments of its jobs, and have to
        have names; ``haulage.current_job()`` is the context. The first call of ``submit`` connects, and
        ``using`` names another client.
        """
        if function is None:
            return functools.partial(self._make, name, options)
        return self._make(name, options, function)

    def _make(self, name: str | None, options: TaskOptions, function: Callable[..., Any]) -> Task[..., Any]:
        kind: Any = AsyncTask if is_async(function) else Task
        made: Task[..., Any] = kind(function, name, options)
        self._made(made)
        return made

    def _made(self, task: Task[..., Any]) -> None:
        """To be told of each."""


task = _Maker().task


class App(_Maker):
    """Tasks that one worker serves, and the options of that worker.

    ``app = haulage.App(concurrency=4)``; functions under ``@app.task`` are its tasks. A worker of it
    is ``haulage.Worker(app)``, or ``haulage worker --python module:app``.
    """

    def __init__(self, **options: Unpack[WorkerOptions]) -> None:
        from ._options import check_options

        check_options(options)
        self.options = options
        """The options of its worker."""
        self.tasks: list[Task[..., Any]] = []
        """Its tasks; those of other modules may be added."""

    def _made(self, task: Task[..., Any]) -> None:
        self.tasks.append(task)
