"""``Consumer`` and its health pages, by the names that code from before Haulage uses."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .._handler import is_async
from .._worker import Worker
from ..errors import (
    ConsumerAlreadyConsumingError,
    ConsumerStopTimeoutError,
    ECSScaleInProtectionManagerError,
    HaulageError,
)
from .dynamodb import DynamoDBClient
from .location import ClientSettings, check_settings, place

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .._haulage import Context

NonRetryable = Iterable[type[BaseException]]

_log = logging.getLogger("haulage")
_AS_LONG_AS_IT_TAKES = timedelta(days=365)


class Consumer:
    """Runs ``compute_result(body, message_id)`` on the jobs of a queue, in the background.

    An exception is tried again, unless it is one of ``non_retryable_errors``; both can be set
    later. A third parameter called ``ctx`` with a default gets the context; the function may
    be ``async``. ``concurrency`` is how many jobs run at once; default: one.

    ``queue_wait_time_seconds`` is how long one request for jobs waits,
    ``heartbeat_visibility_timeout`` how long a job stays with a consumer that is silent, and
    ``heartbeat_interval`` how often it is heard. ``in_progress_ttl_seconds`` is kept for old
    callers: a job whose consumer died goes to another, or ends. With
    ``enable_ecs_scalein_protection``, on AWS no job is run without protection of the ECS task;
    ``ecs_scalein_protection_manager_kwargs`` may have ``expires_in_minutes`` (default: 60).
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
        check_settings(client_settings)
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
        self._delay: threading.Timer | None = None

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
                raise ValueError(f"non_retryable_errors has {error!r}, which is no class of exceptions")

    def _compute(self, body: Any, message_id: str, ctx: Context) -> Any:
        function = self._compute_result
        if self._takes_context:
            return function(body, message_id, ctx=ctx)
        return function(body, message_id)

    async def _compute_async(self, body: Any, message_id: str, ctx: Context) -> Any:
        result = self._compute(body, message_id, ctx)
        return await result if isinstance(result, Awaitable) else result  # pyright: ignore[reportUnknownVariableType]

    def start_consuming(self, delay_seconds: float | None = None) -> None:
        """Begins to work in the background, after ``delay_seconds``, and returns at once.

        It ends with ``stop_consuming``, or with the program. ``ConsumerAlreadyConsumingError``
        where it runs already, ``ConfigError`` or ``UnavailableError`` where the queue cannot be
        had; with a delay, that is logged, and ``is_running`` becomes false.
        """
        with self._lock:
            if self._worker is not None:
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
            worker.set_non_retryable(lambda: self._non_retryable)
            if delay_seconds:
                self._delay = threading.Timer(delay_seconds, self._start_late, [worker])
                self._delay.daemon = True
                self._delay.start()
            else:
                worker.start()
            self._worker = worker

    def _start_late(self, worker: Worker) -> None:
        try:
            worker.start()
        except Exception:
            # Nobody is there to catch it; health checks see that the consumer does not run.
            _log.exception("the consumer of %s could not be started", self.queue_name)
            self._worker = None

    def stop_consuming(self, timeout: float | None = 10) -> None:
        """Stops: no new jobs, and what runs is finished, or given back after ``shutdown_grace_period``.

        ``ConsumerStopTimeoutError`` where that takes longer than ``timeout`` seconds (``None``:
        no limit); it still stops then, and this can be called again. Does nothing where it does
        not run.
        """
        with self._lock:
            worker, delay = self._worker, self._delay
            if worker is None:
                return
            if delay is not None:
                delay.cancel()
                delay.join()
                self._delay = None
            if worker.is_running and worker.stop(timeout) is None and worker.is_running:
                raise ConsumerStopTimeoutError(
                    f"the consumer of {self.queue_name} still works on a job after {timeout} s"
                )
            self._worker = None

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped."""
        return self._worker is not None

    @property
    def is_processing_message(self) -> bool:
        """Whether it holds a job."""
        worker = self._worker
        return worker is not None and worker.busy > 0

    def ping_queue(self) -> bool:
        """Whether the queue and the place of the records answer."""
        try:
            self._place.client.ping()
        except HaulageError:
            return False
        return True


def _protection(enabled: bool, options: Mapping[str, Any]) -> dict[str, str]:
    for name in options:
        if name != "expires_in_minutes":
            raise ECSScaleInProtectionManagerError(
                f"unknown ecs_scalein_protection_manager_kwargs {name!r}; known is expires_in_minutes"
            )
    parameters = {"ecs_protection": "require" if enabled else "off"}
    if "expires_in_minutes" in options:
        parameters["ecs_protection_expires"] = f"{int(options['expires_in_minutes'])}m"
    return parameters
