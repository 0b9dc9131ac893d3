"""Durable jobs: submit them, wait for them, and workers that lose none.

>>> client = haulage.connect("sqlite://haulage.db")
>>> job = client.submit({"number": 4})
>>> job.result()  # waits for a worker to run it

See ``haulage.worker`` for the other side, ``haulage.testing`` for tests, and
``haulage.errors`` for what can go wrong.
"""

from __future__ import annotations

import sys

if sys.argv[:1] == ["-m"] and sys.path:
    # `python -m haulage`: modules of the working folder must not stand in for those of the standard
    # library. Those that the worker is to load are found all the same; see `_load`.
    _words: list[str] = list(getattr(sys, "orig_argv", []))
    _module = _words[_words.index("-m") + 1 :][:1] if "-m" in _words else []
    if _module == ["haulage"] and not getattr(sys.flags, "safe_path", False):
        del sys.path[0]

import atexit

from . import _haulage
from ._client import Client, connect, connect_async
from ._haulage import Attempt, Context, NewJob, Record
from ._job import JobHandle, Progress
from .errors import (
    AwaitingResultTimeoutError,
    BaseError,
    Cancelled,
    ConfigError,
    ConsumerAlreadyConsumingError,
    ConsumerError,
    ConsumerStopTimeoutError,
    DDBError,
    ECSScaleInProtectionManagerError,
    ExpiredError,
    ExpiredItemError,
    Fail,
    ForkError,
    HandlerLoadError,
    HaulageError,
    HeartbeatError,
    IdempotencyConflictError,
    InvalidArgumentError,
    InvalidJSONError,
    JobCancelledError,
    JobFailedError,
    KeyAlreadyExistsError,
    KeyNotFoundError,
    NotFinishedError,
    NotFoundError,
    NotReady,
    ProcessError,
    ResultErrorStatusError,
    ResultInProgressStatusError,
    ResultMissingError,
    Retry,
    Snooze,
    SubmitManyError,
    TooLargeError,
    UnavailableError,
    UnparseableItemError,
    WaitTimeoutError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import testing
    from ._asgi import get_app
    from ._compat.consumer import Consumer
    from ._compat.dynamodb import DynamoDBClient, ResultStatus
    from ._compat.producer import Producer, Response
    from ._status import Cancellation, Status
    from ._worker import Worker, WorkerFunction, worker

__version__ = _haulage.VERSION
HAS_AWS = _haulage.AWS
"""Whether ``sqs://`` URLs are built in."""

__all__ = [
    "HAS_AWS",
    "Attempt",
    "AwaitingResultTimeoutError",
    "BaseError",
    "Cancellation",
    "Cancelled",
    "Client",
    "ConfigError",
    "Consumer",
    "ConsumerAlreadyConsumingError",
    "ConsumerError",
    "ConsumerStopTimeoutError",
    "Context",
    "DDBError",
    "DynamoDBClient",
    "ECSScaleInProtectionManagerError",
    "ExpiredError",
    "ExpiredItemError",
    "Fail",
    "ForkError",
    "HandlerLoadError",
    "HaulageError",
    "HeartbeatError",
    "IdempotencyConflictError",
    "InvalidArgumentError",
    "InvalidJSONError",
    "JobCancelledError",
    "JobFailedError",
    "JobHandle",
    "KeyAlreadyExistsError",
    "KeyNotFoundError",
    "NewJob",
    "NotFinishedError",
    "NotFoundError",
    "NotReady",
    "ProcessError",
    "Producer",
    "Progress",
    "Record",
    "Response",
    "ResultErrorStatusError",
    "ResultInProgressStatusError",
    "ResultMissingError",
    "ResultStatus",
    "Retry",
    "Snooze",
    "Status",
    "SubmitManyError",
    "TooLargeError",
    "UnavailableError",
    "UnparseableItemError",
    "WaitTimeoutError",
    "Worker",
    "WorkerFunction",
    "__version__",
    "connect",
    "connect_async",
    "get_app",
    "testing",
    "worker",
]

# Loaded when they are first used: a producer has no use for them.
_LAZY = {
    "Cancellation": "_status",
    "Status": "_status",
    "Consumer": "_compat.consumer",
    "DynamoDBClient": "_compat.dynamodb",
    "Producer": "_compat.producer",
    "Response": "_compat.producer",
    "ResultStatus": "_compat.dynamodb",
    "get_app": "_asgi",
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
