"""Durable jobs: submit them, wait for them, and workers that lose none.

>>> client = haulage.connect("sqlite://haulage.db")
>>> job = client.submit({"number": 4})
>>> job.result()  # waits for a worker to run it

See ``haulage.worker`` for the other side, ``haulage.testing`` for tests, and
``haulage.errors`` for what can go wrong.
"""

from __future__ import annotations

import atexit

from . import _haulage
from ._client import Client, JobHandle, Progress, connect, connect_async
from ._haulage import Context, NewJob, Record
from ._status import Cancellation, Status
from .errors import (
    BaseError,
    Cancelled,
    ConfigError,
    ExpiredError,
    Fail,
    ForkError,
    HandlerLoadError,
    HaulageError,
    InvalidArgumentError,
    InvalidJSONError,
    JobCancelledError,
    JobFailedError,
    NotFinishedError,
    NotFoundError,
    Retry,
    SubmitManyError,
    TooLargeError,
    UnavailableError,
    WaitTimeoutError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import testing
    from ._worker import Worker, WorkerFunction, worker

__version__ = _haulage.VERSION

__all__ = [
    "BaseError",
    "Cancellation",
    "Cancelled",
    "Client",
    "ConfigError",
    "Context",
    "ExpiredError",
    "Fail",
    "ForkError",
    "HandlerLoadError",
    "HaulageError",
    "InvalidArgumentError",
    "InvalidJSONError",
    "JobCancelledError",
    "JobFailedError",
    "JobHandle",
    "NewJob",
    "NotFinishedError",
    "NotFoundError",
    "Progress",
    "Record",
    "Retry",
    "Status",
    "SubmitManyError",
    "TooLargeError",
    "UnavailableError",
    "WaitTimeoutError",
    "Worker",
    "WorkerFunction",
    "__version__",
    "connect",
    "connect_async",
    "testing",
    "worker",
]

# Loaded when they are first used: a producer has no use for them.
_LAZY = {
    "Worker": "_worker",
    "WorkerFunction": "_worker",
    "worker": "_worker",
    "testing": "",
}

# What still works when the program ends gives its jobs back.
atexit.register(_haulage.close)


def __getattr__(name: str) -> object:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if not module:
        return import_module(f".{name}", __name__)
    value: object = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
