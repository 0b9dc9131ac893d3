"""The user's function: what it takes, and what an exception of it means."""

from __future__ import annotations

import traceback

from .._parse import Unfit, builds, evaluated, item_of, parser
from ..errors import Cancelled, Fail, InvalidArgumentError, NotReady, Retry, Snooze, WorkerBroken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, Union

    from .._haulage import Context
    from .._parse import Parse

    # Of UTF-8 text and plain numbers, so that each can be sent to another process and recorded.
    # The value of "ok" alone may be anything.
    Answer = Union[
        tuple[Literal["ok", "json", "unfit", "invalid_body", "not_ready", "broken"], Any],
        # The message, and the type of the exception, if there was one.
        tuple[Literal["fail"], str, Union[str, None]],
        tuple[Literal["retry"], str, Union[float, None], Union[str, None]],
        tuple[Literal["snooze"], str, float],
        tuple[Literal["put_back"], str, int],
        tuple[Literal["cancelled"]],
    ]

# How much of an exception is kept.
_MOST_BYTES = 8 * 1024
_MOST_SUMMARY = 1000

_BY_NAME = {
    **dict.fromkeys(("ctx", "context", "ctxs", "contexts"), "context"),
    **dict.fromkeys(("message_id", "job_id", "message_ids", "job_ids"), "id"),
}
_BY_POSITION = ("id", "context")


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call of it has to be awaited."""
    import inspect

    call = getattr(function, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


class Signature:
    """How a function wants to be called.

    The first parameter gets the body (a batch: the list of bodies). A further one that is
    called ``ctx`` or ``context`` gets the context, one called ``message_id`` or ``job_id`` the
    id, wherever it stands; by other names, the second gets the id and the third the context.
    Parameters with defaults and other names are left alone.
    """

    __slots__ = ("_annotation", "_extras", "_named", "_parse", "function", "is_async")

    def __init__(self, function: Callable[..., Any]) -> None:
        import inspect

        if not callable(function):
            raise ValueError(f"the handler is {function!r}, which cannot be called")
        self.function = function
        # Of the body, where there is one; and what makes the value that it asks for.
        self._annotation: Any = None
        self._parse: Parse | None = None
        self.is_async = is_async(function)
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):
            # Functions of extensions do not always tell; the compatible form it is.
            self._extras: tuple[str, ...] = ("id",)
            self._named: tuple[tuple[str, str], ...] = ()
            return
        self._named = ()
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if not positional:
            if any(p.kind is p.VAR_POSITIONAL for p in parameters):
                self._extras = ("id",)
                return
            raise ValueError(f"the handler {_name(function)} takes no argument; the first gets the body")
        if positional[0].annotation is not inspect.Parameter.empty:
            self._annotation = positional[0].annotation
        extras: list[str] = []
        named: list[tuple[str, str]] = []
        # From the first one that is left alone, the others can be given by their names only.
        by_place = True
        further = [*positional[1:], *(p for p in parameters if p.kind is p.KEYWORD_ONLY)]
        for place, parameter in enumerate(further):
            by_place = by_place and parameter.kind is not parameter.KEYWORD_ONLY
            wish = _BY_NAME.get(parameter.name)
            if wish is None and parameter.default is not parameter.empty:
                by_place = False
            elif by_place and (wish is not None or place < len(_BY_POSITION)):
                extras.append(wish or _BY_POSITION[place])
            elif wish is not None and parameter.kind is not parameter.POSITIONAL_ONLY:
                named.append((parameter.name, wish))
            elif parameter.kind is parameter.KEYWORD_ONLY:
                raise ValueError(
                    f"the handler {_name(function)} requires {parameter.name}, which a worker does not know; "
                    "give it a default, or call it ctx or job_id"
                )
            else:
                raise ValueError(
                    f"the handler {_name(function)} has {len(positional)} parameters; "
                    "it gets the body, the job's id and the context at most"
                )
        self._extras = tuple(extras)
        self._named = tuple(named)

    def parse_bodies(self, batched: bool) -> None:
        """From now on, bodies are parsed where the annotation asks for a dataclass or a model.

        An annotation that cannot be evaluated, as what it names is there for type checkers only, is
        left alone.
        """
        try:
            kind = evaluated(self._annotation, self.function)
        except Exception:
            return
        kind = item_of(kind) if batched else kind
        if builds(kind):
            try:
                self._parse = parser(kind)
            except Exception as error:
                raise InvalidArgumentError(
                    f"the handler {_name(self.function)} takes {kind!r}, whose fields cannot be told: "
                    f"{type(error).__name__}: {error}"
                ) from error

    def parsed(self, body: Any) -> Any:
        """A body as it is wanted; raises ``Unfit`` where it is another."""
        return body if self._parse is None else self._parse(body)

    def call(self, body: Any, context: Context) -> Any:
        """Calls it with one job; raises ``Unfit`` where its body is not what it takes."""
        if self._parse is not None:
            body = self._parse(body)
        extras = self._extras
        if self._named:
            more = {name: context if e == "context" else context.job_id for name, e in self._named}
            return self.function(
                body, *[context if e == "context" else context.job_id for e in extras], **more
            )
        if not extras:
            return self.function(body)
        return self.function(body, *[context if e == "context" else context.job_id for e in extras])

    def call_batch(self, jobs: list[tuple[Any, Context]]) -> Any:
        """Calls it with a batch, whose bodies have been parsed."""
        bodies = [body for body, _ in jobs]
        lists = {"context": [context for _, context in jobs], "id": [context.job_id for _, context in jobs]}
        return self.function(
            bodies, *[lists[e] for e in self._extras], **{name: lists[e] for name, e in self._named}
        )


def failure(error: BaseException, non_retryable: tuple[type[BaseException], ...]) -> Answer:
    """What an exception means for the job: the one place that makes an answer of one."""
    if isinstance(error, Unfit):
        return ("invalid_body", _plain(error.message("the body")))
    if isinstance(error, Retry):
        after, remark = _after(error)
        return ("retry", _told(error) + remark, after, _type_told(error))
    if isinstance(error, Snooze):
        after, remark = _after(error)
        # Without a length of time it is a mistake, which must not go on for ever.
        if after is None:
            return ("retry", _told(error) + remark, None, _type_told(error))
        return ("snooze", _told(error), after)
    if isinstance(error, NotReady):
        return ("not_ready", _told(error))
    if isinstance(error, WorkerBroken):
        return ("broken", _told(error))
    if isinstance(error, Fail):
        return ("fail", _told(error), _type_told(error))
    if isinstance(error, Cancelled):
        return ("cancelled",)
    if non_retryable and isinstance(error, non_retryable):
        return ("fail", describe(error), type_name(error))
    return ("retry", describe(error), None, type_name(error))


def interrupts(error: BaseException) -> bool:
    """Whether an exception is meant for more than the job: Ctrl-C, or the end of a test."""
    return not isinstance(error, (Exception, SystemExit, GeneratorExit)) and (
        type(error).__name__ != "CancelledError"
    )


def _after(error: Retry | Snooze) -> tuple[float | None, str]:
    """The wait that is asked for, in seconds, and a remark where it cannot be had."""
    # A subclass may never have called `Retry.__init__`.
    after = getattr(error, "after", None)
    if after is None:
        return None, ""
    try:
        seconds = float(after.total_seconds() if hasattr(after, "total_seconds") else after)
    except (ArithmeticError, TypeError, ValueError):
        seconds = -1.0
    if seconds >= 0 and not isinstance(after, str):
        return seconds, ""
    return None, _plain(
        f"\n\n(The handler asked to be called again after {after!r}, which is not a length of time; "
        "the worker's own backoff was taken. Give seconds, or a timedelta.)"
    )


def _told(error: BaseException) -> str:
    # The handler's own words; of a cause, if there is one, also the place.
    try:
        words = _plain(str(error))
    except Exception:
        return describe(error)
    if error.__cause__ is None:
        return words
    return f"{words}\n\n{_cut(_traceback(error.__cause__), _MOST_BYTES - _MOST_SUMMARY)}"


def type_name(error: BaseException) -> str:
    """The name of an exception's type, as a traceback has it: ``ValueError``, ``torch.OutOfMemoryError``."""
    kind = type(error)
    where = kind.__module__
    return kind.__qualname__ if where in ("builtins", "__main__") else f"{where}.{kind.__qualname__}"


def _type_told(error: BaseException) -> str | None:
    # A plain `Retry` or `Fail` says nothing of what it is about; its cause does.
    if error.__cause__ is not None:
        return type_name(error.__cause__)
    return None if type(error).__module__.split(".")[0] == "haulage" else type_name(error)


def describe(error: BaseException) -> str:
    """An exception in words: a summary, then the traceback, whose end is kept if it is long."""
    summary = "".join(traceback.format_exception_only(type(error), error)).strip()
    summary = _plain(summary[:_MOST_SUMMARY])
    room = _MOST_BYTES - len(summary.encode()) - 2
    return f"{summary}\n\n{_cut(_traceback(error), room)}"


def _traceback(error: BaseException) -> str:
    # Without the frames of this package, which lead to the handler.
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("haulage._"):
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    return _plain("".join(lines).strip())


def _plain(text: str) -> str:
    # Half characters, as of file names that are not UTF-8, can be neither sent nor stored.
    return text.encode("utf-8", "replace").decode()


def _cut(text: str, most: int) -> str:
    data = text.encode()
    if len(data) <= most:
        return text
    mark = "[cut] … "
    return mark + data[len(data) - (most - len(mark.encode())) :].decode("utf-8", "ignore")


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
