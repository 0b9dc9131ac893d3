"""``Consumer`` and its health pages, by the names that code from before Haulage uses."""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .._worker.handler import is_async
from .._worker.worker import Worker
from .dynamodb import DynamoDBClient
from .errors import (
    ConsumerAlreadyConsumingError,
    ConsumerStopTimeoutError,
    ConsumerUnretryableError,
    ECSScaleInProtectionManagerError,
)
from .location import ClientSettings, check_settings, ping, place
from .values import as_json

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import Unpack

    from .._haulage import Context

NonRetryable = Iterable[type[BaseException]]

_AS_LONG_AS_IT_TAKES = timedelta(days=365)


class Consumer:
    """Runs ``compute_result(body, message_id)`` on the jobs of a queue, in the background.

    An exception is tried again, unless it is one of ``non_retryable_errors`` or a
    ``ConsumerUnretryableError``; function and errors can be set later. A third parameter called
    ``ctx`` with a default gets the context; the function may be ``async``. ``concurrency`` is how
    many jobs run at once; default: one.

    ``queue_wait_time_seconds`` is how long one request for jobs waits,
    ``heartbeat_visibility_timeout`` how long a job stays with a consumer that is silent, and
    ``heartbeat_interval`` how often it is heard. ``in_progress_ttl_seconds`` is kept for old
    callers: a job whose consumer died goes to another, or ends. With
    ``enable_ecs_scalein_protection``, on AWS no job is run without protection of the ECS task.
    ``ecs_scalein_protection_manager_kwargs`` may have ``expires_in_minutes`` (default: 60), and
    ``raise_for_req_error`` or ``raise_for_agent_error``: where one is ``False``, jobs are run even
    if the task cannot be protected. ``request_timeout``, ``retries`` and ``backoff_factor`` are kept
    for old callers: each request to the agent is bounded.
    ``shutdown_grace_period`` is how long, in seconds, jobs may finish once it stops, before they
    are given back; by default they are finished, however long that takes.
    """

    def __init__(
        self,
        queue_name: str,
        *,
        ddb_client: DynamoDBClient,
        compute_result: Callable[..., Any],
        queue_wait_time_seconds: float = 1,
        in_progress_ttl_seconds: float = 600,
        heartbeat_visibility_timeout: float = 30,
        heartbeat_interval: float = 10,
        enable_ecs_scalein_protection: bool = True,
        ecs_scalein_protection_manager_kwargs: Mapping[str, Any] | None = None,
        non_retryable_errors: NonRetryable | None = None,
        concurrency: int = 1,
        shutdown_grace_period: float | None = None,
        **client_settings: Unpack[ClientSettings],
    ) -> None:
        check_settings(client_settings, "2012-11-05")
        self.compute_result = compute_result
        self.non_retryable_errors = non_retryable_errors
        self.queue_name = queue_name
        """The queue."""
        self.ddb_client = ddb_client
        """The records."""
        self.queue_wait_time_seconds = queue_wait_time_seconds
        """How long one request for jobs waits."""
        self.in_progress_ttl_seconds = in_progress_ttl_seconds
        """Kept for old callers."""
        self.heartbeat_visibility_timeout = heartbeat_visibility_timeout
        """How long a job stays with a consumer that is silent."""
        self.heartbeat_interval = heartbeat_interval
        """How often it is heard."""
        self.concurrency = concurrency
        """How many jobs run at once."""
        self.shutdown_grace_period = shutdown_grace_period
        """How long jobs may finish once it stops; ``None`` is as long as it takes."""
        self._place = place(
            queue_name,
            ddb_client.table_name,
            client_settings,
            ddb_client.settings,
            _protection(enable_ecs_scalein_protection, ecs_scalein_protection_manager_kwargs or {}),
        )
        ddb_client.bind(self._place)
        self._lock = threading.Lock()
        self._worker: Worker | None = None

    @property
    def compute_result(self) -> Callable[..., Any]:
        """The function that does the work; ``ValueError`` where it does not take two arguments."""
        return self._compute_result

    @compute_result.setter
    def compute_result(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise ValueError(f"compute_result is {function!r}, which cannot be called")
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            signature = None  # of an extension, which does not tell
        takes_context = False
        if signature is not None:
            try:
                signature.bind(None, None)
            except TypeError as error:
                raise ValueError(
                    f"compute_result has to take two positional arguments, body and message_id: {error}"
                ) from error
            takes_context = "ctx" in list(signature.parameters)[2:]
        self._takes_context = takes_context
        self._compute_result = function

    @property
    def non_retryable_errors(self) -> tuple[type[BaseException], ...]:
        """The exceptions that fail a job for good."""
        return self._non_retryable

    @non_retryable_errors.setter
    def non_retryable_errors(self, errors: NonRetryable | None) -> None:
        self._non_retryable = tuple(errors or ())
        for error in self._non_retryable:
            if not (isinstance(error, type) and issubclass(error, BaseException)):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ValueError(f"non_retryable_errors has {error!r}, which is not an exception class")

    def _call(self, body: Any, message_id: str, ctx: Context) -> Any:
        function = self._compute_result
        if self._takes_context:
            return function(body, message_id, ctx=ctx)
        return function(body, message_id)

    def _compute(self, body: Any, message_id: str, ctx: Context) -> Any:
        return as_json(self._call(body, message_id, ctx))

    async def _compute_async(self, body: Any, message_id: str, ctx: Context) -> Any:
        result = self._call(body, message_id, ctx)
        return as_json(await result if isinstance(result, Awaitable) else result)

    def start_consuming(self, *, delay_seconds: float | None = None) -> None:
        """Begins to work in the background, and returns after ``delay_seconds``; by default at once.

        It ends with ``stop_consuming``, or with the program. ``ConsumerAlreadyConsumingError``
        where it runs already, ``ConfigError`` or ``UnavailableError`` where the queue cannot be
        had.
        """
        with self._lock:
            if self.is_running:
                raise ConsumerAlreadyConsumingError(f"the consumer of {self.queue_name} runs already")
            grace = self.shutdown_grace_period
            worker = Worker(
                self._compute_async if is_async(self._compute_result) else self._compute,
                self._place.client,
                concurrency=self.concurrency,
                claim_wait=self.queue_wait_time_seconds,
                lease=self.heartbeat_visibility_timeout,
                heartbeat_interval=self.heartbeat_interval,
                shutdown_grace_period=_AS_LONG_AS_IT_TAKES if grace is None else grace,
            )
            worker.set_non_retryable(lambda: (*self._non_retryable, ConsumerUnretryableError))
            worker.start()
            self._worker = worker
        if delay_seconds:
            time.sleep(delay_seconds)

    def stop_consuming(self, timeout: float | None = 10) -> None:
        """Stops: no new jobs, and what runs is finished, or given back after ``shutdown_grace_period``.

        ``ConsumerStopTimeoutError`` where that takes longer than ``timeout`` seconds (``None``:
        no limit); it still stops then, and this can be called again. Does nothing where it does
        not run.
        """
        with self._lock:
            worker = self._worker
            if worker is None:
                return
            if worker.is_running and worker.stop(timeout) is None and worker.is_running:
                raise ConsumerStopTimeoutError(
                    f"the consumer of {self.queue_name} still works on a job after {timeout} s"
                )
            self._worker = None

    @property
    def is_running(self) -> bool:
        """Whether it was started, and has not ended."""
        worker = self._worker
        return worker is not None and worker.is_running

    @property
    def is_processing_message(self) -> bool:
        """Whether it holds a job."""
        worker = self._worker
        return worker is not None and worker.busy > 0

    def ping_queue(self) -> Literal["pong"]:
        """``"pong"``; ``SQSConnectionError`` where the queue or the place of the records does not answer."""
        return ping(self._place)


# What the manager of protection took before. How long and how often its agent is asked is
# bounded here by itself.
_OF_PROTECTION = frozenset(
    {
        "backoff_factor",
        "ecs_agent_uri",
        "expires_in_minutes",
        "raise_for_agent_error",
        "raise_for_req_error",
        "request_timeout",
        "retries",
    }
)


def _protection(enabled: bool, options: Mapping[str, Any]) -> dict[str, str]:
    for name in options:
        if name not in _OF_PROTECTION:
            raise ECSScaleInProtectionManagerError(
                f"unknown ecs_scalein_protection_manager_kwargs {name!r}; known are "
                f"{', '.join(sorted(_OF_PROTECTION))}"
            )
    agent = options.get("ecs_agent_uri")
    if agent is not None and agent != os.environ.get("ECS_AGENT_URI"):
        raise ECSScaleInProtectionManagerError(
            f"ecs_agent_uri is {agent}; set ECS_AGENT_URI in the environment, as ECS does"
        )
    if not enabled:
        return {"ecs_protection": "off"}
    # Where no error of the agent is raised, the job is run without.
    strict = options.get("raise_for_req_error", True) and options.get("raise_for_agent_error", True)
    parameters = {"ecs_protection": "require" if strict else "prefer"}
    if options.get("expires_in_minutes") is not None:
        parameters["ecs_protection_expires"] = f"{int(options['expires_in_minutes'])}m"
    return parameters
