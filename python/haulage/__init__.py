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
    # library. Those that the worker is to load are found all the same; see `_worker/load.py`.
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
    BaseError,
    Cancelled,
    ConfigError,
    ExpiredError,
    Fail,
    ForkError,
    HandlerLoadError,
    HaulageError,
    IdempotencyConflictError,
    InvalidArgumentError,
    InvalidJSONError,
    JobCancelledError,
    JobFailedError,
    NotFinishedError,
    NotFoundError,
    NotReady,
    ProcessError,
    ResultTypeError,
    Retry,
    Snooze,
    SubmitManyError,
    TooLargeError,
    UnavailableError,
    WaitTimeoutError,
    WorkerBroken,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import testing
    from ._compat.app import get_app, get_router
    from ._compat.consumer import Consumer
    from ._compat.dynamodb import DynamoDBClient
    from ._compat.errors import (
        AwaitingResultTimeoutError,
        ConsumerAlreadyConsumingError,
        ConsumerError,
        ConsumerRetryableError,
        ConsumerStopTimeoutError,
        ConsumerUnretryableError,
        DDBError,
        ECSScaleInProtectionManagerAgentError,
        ECSScaleInProtectionManagerError,
        ECSScaleInProtectionManagerRequestError,
        ExpiredItemError,
        HeartbeatError,
        HeartbeatStopTimeoutError,
        KeyAlreadyExistsError,
        KeyNotFoundError,
        ProducerError,
        ResultErrorStatusError,
        ResultInProgressStatusError,
        ResultMissingError,
        SQSConnectionError,
        UnparseableItemError,
    )
    from ._compat.item import DynamoDBItem, ResultStatus
    from ._compat.producer import Producer, Response
    from ._status import Cancellation, Status
    from ._task import App, AsyncTask, Task, task
    from ._worker.running import JobFilter, current_job
    from ._worker.worker import Worker, WorkerFunction, worker

__version__ = _haulage.VERSION
HAS_AWS = _haulage.AWS
"""Whether ``sqs://`` URLs are built in."""

__all__ = [
    "HAS_AWS",
    "App",
    "AsyncTask",
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
    "ConsumerRetryableError",
    "ConsumerStopTimeoutError",
    "ConsumerUnretryableError",
    "Context",
    "DDBError",
    "DynamoDBClient",
    "DynamoDBItem",
    "ECSScaleInProtectionManagerAgentError",
    "ECSScaleInProtectionManagerError",
    "ECSScaleInProtectionManagerRequestError",
    "ExpiredError",
    "ExpiredItemError",
    "Fail",
    "ForkError",
    "HandlerLoadError",
    "HaulageError",
    "HeartbeatError",
    "HeartbeatStopTimeoutError",
    "IdempotencyConflictError",
    "InvalidArgumentError",
    "InvalidJSONError",
    "JobCancelledError",
    "JobFailedError",
    "JobFilter",
    "JobHandle",
    "KeyAlreadyExistsError",
    "KeyNotFoundError",
    "NewJob",
    "NotFinishedError",
    "NotFoundError",
    "NotReady",
    "ProcessError",
    "Producer",
    "ProducerError",
    "Progress",
    "Record",
    "Response",
    "ResultErrorStatusError",
    "ResultInProgressStatusError",
    "ResultMissingError",
    "ResultStatus",
    "ResultTypeError",
    "Retry",
    "SQSConnectionError",
    "Snooze",
    "Status",
    "SubmitManyError",
    "Task",
    "TooLargeError",
    "UnavailableError",
    "UnparseableItemError",
    "WaitTimeoutError",
    "Worker",
    "WorkerBroken",
    "WorkerFunction",
    "__version__",
    "connect",
    "connect_async",
    "current_job",
    "get_app",
    "get_router",
    "task",
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
    "DynamoDBItem": "_compat.item",
    "ResultStatus": "_compat.item",
    "get_app": "_compat.app",
    "get_router": "_compat.app",
    "SQSConnectionError": "_compat.errors",
    "DDBError": "_compat.errors",
    "KeyNotFoundError": "_compat.errors",
    "KeyAlreadyExistsError": "_compat.errors",
    "ResultMissingError": "_compat.errors",
    "ResultErrorStatusError": "_compat.errors",
    "ResultInProgressStatusError": "_compat.errors",
    "UnparseableItemError": "_compat.errors",
    "AwaitingResultTimeoutError": "_compat.errors",
    "ExpiredItemError": "_compat.errors",
    "ProducerError": "_compat.errors",
    "ConsumerError": "_compat.errors",
    "ConsumerAlreadyConsumingError": "_compat.errors",
    "ConsumerStopTimeoutError": "_compat.errors",
    "ConsumerRetryableError": "_compat.errors",
    "ConsumerUnretryableError": "_compat.errors",
    "HeartbeatError": "_compat.errors",
    "HeartbeatStopTimeoutError": "_compat.errors",
    "ECSScaleInProtectionManagerError": "_compat.errors",
    "ECSScaleInProtectionManagerRequestError": "_compat.errors",
    "ECSScaleInProtectionManagerAgentError": "_compat.errors",
    "JobFilter": "_worker.running",
    "current_job": "_worker.running",
    "App": "_task",
    "AsyncTask": "_task",
    "Task": "_task",
    "task": "_task",
    "Worker": "_worker.worker",
    "WorkerFunction": "_worker.worker",
    "worker": "_worker.worker",
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
