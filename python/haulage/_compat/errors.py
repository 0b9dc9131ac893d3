"""The exceptions of the compatible interface, with the parents that they always had."""

from __future__ import annotations

from ..errors import BaseError


class SQSConnectionError(BaseError):
    """The queue does not answer."""


class DDBError(BaseError):
    """The root of the errors about records."""


class KeyNotFoundError(DDBError):
    """There is no record with this id."""


class KeyAlreadyExistsError(DDBError):
    """There is a record with this id already."""


class ResultMissingError(DDBError):
    """Kept for code that catches it: a result may be ``None``, so it is never raised."""


class ResultErrorStatusError(DDBError):
    """The job ended in ``ERROR``; the text is the job's error."""


class ResultInProgressStatusError(DDBError):
    """The job waits, or runs."""


class UnparseableItemError(DDBError):
    """The record does not have the form that it should."""


class AwaitingResultTimeoutError(DDBError, TimeoutError):
    """The result did not come in time. The job goes on."""


class ExpiredItemError(DDBError):
    """The time for which the record is kept is over."""


class ProducerError(BaseError):
    """The root of the errors of a ``Producer``; it raises none but those of the queue and the records."""


class ConsumerError(BaseError):
    """The root of the errors of a ``Consumer``."""


class ConsumerAlreadyConsumingError(ConsumerError):
    """``start_consuming`` was called on a consumer that runs."""


class ConsumerStopTimeoutError(ConsumerError, TimeoutError, RuntimeError):
    """The consumer did not stop in time; it still stops when its job is done."""


class ConsumerRetryableError(ConsumerError):
    """Raised by a handler: the job is tried again, as after any exception that is not listed."""


class ConsumerUnretryableError(ConsumerError):
    """Raised by a handler: the job failed, and is not tried again."""


class HeartbeatError(ConsumerError):
    """Kept for code that catches it: claims that were lost are in the log."""


class HeartbeatStopTimeoutError(ConsumerError, TimeoutError):
    """Kept for code that catches it."""


class ECSScaleInProtectionManagerError(ConsumerError):
    """Scale-in protection is set up wrongly."""


class ECSScaleInProtectionManagerRequestError(ConsumerError):
    """Kept for code that catches it: an agent that cannot be reached is in the log."""


class ECSScaleInProtectionManagerAgentError(ConsumerError):
    """Kept for code that catches it: what an agent refuses is in the log."""
