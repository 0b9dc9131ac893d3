"""From ``package.module:function`` to the function."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from ..errors import HandlerLoadError

if TYPE_CHECKING:
    from collections.abc import Callable


def load(target: str) -> Callable[..., Any]:
    """The function that is named so; modules of the working directory are found, too.

    Raises ``HandlerLoadError``, which says what is wrong and what would be right.
    """
    found = _found(target)
    if not callable(found):
        raise HandlerLoadError(f"{target} is a {type(found).__name__}, which cannot be called")
    return found  # type: ignore[no-any-return]


def load_handler(target: str | list[str]) -> Any:
    """What a worker is to run: a function, a task, an app or a list of tasks that is named so, or all
    tasks of the module of this name; of several names, the tasks.
    """
    from .router import tasks_of

    if not isinstance(target, str):
        return [_found(one) for one in target]
    if ":" in target:
        found = _found(target)
        if tasks_of(found) is None and not callable(found):
            raise HandlerLoadError(
                f"{target} is of type {type(found).__name__}, and neither a function nor tasks"
            )
        return found
    from .._task import Task

    _find_own_modules()
    module: Any = _module(target)
    values: list[Any] = list(module.__dict__.values())
    tasks: list[Any] = [
        one for one in values if isinstance(one, Task) and f"{one.__module__}.".startswith(f"{target}.")
    ]
    if not tasks:
        raise HandlerLoadError(
            f"{target} defines no tasks, functions under @haulage.task; name a function of it, as in "
            f"{target}:function"
        )
    return tasks


def _found(target: str) -> Any:
    name, colon, path = target.partition(":")
    if not colon or not name or not path:
        raise HandlerLoadError(f"{target!r} names no function; write it as package.module:function")
    _find_own_modules()
    found: Any = _module(name)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise HandlerLoadError(_no_attribute(found, name, part)) from None
    return found


def _find_own_modules() -> None:
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(_behind_the_standard_library(), folder)


def _behind_the_standard_library() -> int:
    # Before what is installed, as `python -m` has it, but a `json.py` stands in for nothing.
    library = os.path.dirname(os.__file__)
    ours = (library, os.path.join(library, "lib-dynload"))
    return max((place + 1 for place, folder in enumerate(sys.path) if folder in ours), default=0)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise HandlerLoadError(
                f"there is no module {missing}; it was looked for in {os.getcwd()} and where Python's "
                "packages are, and PYTHONPATH can name more places"
            ) from None
        raise HandlerLoadError(f"{name} imports {missing}, and there is no such module") from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__)).strip()
        raise HandlerLoadError(f"{name} cannot be imported:\n{trace}") from error


def _no_attribute(holder: Any, module: str, name: str) -> str:
    known = [other for other in dir(holder) if not other.startswith("_") and callable(getattr(holder, other))]
    similar = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {similar[0]}?" if similar else f"; it has {', '.join(known) or 'no functions'}"
    return f"{module} has no {name}{hint}"
