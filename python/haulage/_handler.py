"""The user's function: what it takes, and what an exception of it means."""

from __future__ import annotations

import traceback

from .errors import Cancelled, Fail, Retry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, Union

    from ._haulage import Context
    from ._options import Seconds

    Answer = Union[
        tuple[Literal["ok", "json", "unfit", "fail"], Any],
        tuple[Literal["retry"], str, Union[Seconds, None]],
        tuple[Literal["cancelled"]],
    ]

# The core keeps the last 8 KiB of an error.
_MOST_BYTES = 8 * 1024
_MOST_SUMMARY = 1000

_CONTEXT_NAMES = frozenset({"ctx", "context", "ctxs", "contexts"})
_ID_NAMES = frozenset({"message_id", "job_id", "message_ids", "job_ids"})
_BY_POSITION = ("id", "context")


class Signature:
    """How a function wants to be called.

    The first parameter gets the body (a batch: the list of bodies). A further one that is
    called ``ctx`` or ``context`` gets the context, one called ``message_id`` or ``job_id`` the
    id; by other names, the second gets the id and the third the context. Parameters with
    defaults and other names are left alone.
    """

    __slots__ = ("_extras", "function", "is_async")

    def __init__(self, function: Callable[..., Any]) -> None:
        import inspect

        if not callable(function):
            raise ValueError(f"the handler is {function!r}, which cannot be called")
        call = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            # Functions of extensions do not always tell; the established form it is.
            self._extras: tuple[str, ...] = ("id",)
            return
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if not positional:
            if any(p.kind is p.VAR_POSITIONAL for p in parameters):
                self._extras = ("id",)
                return
            raise ValueError(f"the handler {_name(function)} takes no argument; the first gets the body")
        extras: list[str] = []
        for place, parameter in enumerate(positional[1:]):
            if parameter.name in _CONTEXT_NAMES:
                extras.append("context")
            elif parameter.name in _ID_NAMES:
                extras.append("id")
            elif parameter.default is not parameter.empty:
                break
            elif place < len(_BY_POSITION):
                extras.append(_BY_POSITION[place])
            else:
                raise ValueError(
                    f"the handler {_name(function)} has {len(positional)} parameters; "
                    "it gets the body, the job's id and the context at most"
                )
        self._extras = tuple(extras)

    def call(self, body: Any, context: Context) -> Any:
        """Calls it with one job."""
        extras = self._extras
        if not extras:
            return self.function(body)
        return self.function(body, *[context if e == "context" else context.job_id for e in extras])

    def call_batch(self, jobs: list[tuple[Any, Context]]) -> Any:
        """Calls it with a batch."""
        bodies = [body for body, _ in jobs]
        extras = [
            [context if e == "context" else context.job_id for _, context in jobs] for e in self._extras
        ]
        return self.function(bodies, *extras)


def batch_answers(results: Any, count: int) -> list[Answer]:
    """The answers of a batched function: one for each job, exceptions for those that failed."""
    if isinstance(results, (str, bytes, dict)) or not hasattr(results, "__iter__"):
        kind = type(results).__name__  # pyright: ignore[reportUnknownArgumentType]
        return [("fail", f"the batched handler returned a {kind}; it has to return a list")] * count
    answers: list[Answer] = []
    for result in results:
        answers.append(failure(result, ()) if isinstance(result, BaseException) else ("ok", result))
    if len(answers) != count:
        message = f"the batched handler got {count} jobs and returned {len(answers)} results"
        return [("retry", message, None)] * count
    return answers


def failure(error: BaseException, non_retryable: tuple[type[BaseException], ...]) -> Answer:
    """What an exception means for the job."""
    if isinstance(error, Retry):
        return ("retry", _told(error), error.after)
    if isinstance(error, Fail):
        return ("fail", _told(error))
    if isinstance(error, Cancelled):
        return ("cancelled",)
    if non_retryable and isinstance(error, non_retryable):
        return ("fail", describe(error))
    return ("retry", describe(error), None)


def _told(error: BaseException) -> str:
    # The handler's own words; of a cause, if there is one, also the place.
    if error.__cause__ is None:
        return str(error)
    return f"{error}\n\n{_cut(_traceback(error.__cause__), _MOST_BYTES - _MOST_SUMMARY)}"


def describe(error: BaseException) -> str:
    """An exception in words: a summary, then the traceback, whose end is kept if it is long."""
    summary = "".join(traceback.format_exception_only(type(error), error)).strip()
    summary = summary[:_MOST_SUMMARY].encode("utf-8", "replace").decode()
    room = _MOST_BYTES - len(summary.encode()) - 2
    return f"{summary}\n\n{_cut(_traceback(error), room)}"


def _traceback(error: BaseException) -> str:
    # Without the frames of this package, which lead to the handler.
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("haulage._"):
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    return "".join(lines).strip().encode("utf-8", "replace").decode()


def _cut(text: str, most: int) -> str:
    data = text.encode()
    if len(data) <= most:
        return text
    mark = "[cut] … "
    return mark + data[len(data) - (most - len(mark.encode())) :].decode("utf-8", "ignore")


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
