"""The consumer, with pages for its health: ``uvicorn app:app``."""

from __future__ import annotations

from typing import Any

import settings
from haulage import Cancelled, Consumer, Context, DynamoDBClient, get_app


def count_words(body: dict[str, Any], message_id: str, ctx: Context | None = None) -> dict[str, Any]:
    """Stands for a model: counts words, and takes as long as it is told."""
    # In place of time.sleep, so that it stops at once when the job is given back.
    if ctx is not None and ctx.wait_cancelled(body.get("seconds", 0)):
        raise Cancelled
    return {"words": len(body["text"].split())}


consumer = Consumer(
    settings.QUEUE_NAME,
    ddb_client=DynamoDBClient(settings.TABLE_NAME, **settings.TABLE),
    compute_result=count_words,
    enable_ecs_scalein_protection=settings.SCALEIN_PROTECTION,
    shutdown_grace_period=settings.SHUTDOWN_GRACE_PERIOD,
    **settings.QUEUE,
)

# Starts the consumer with the server, and stops it with the server.
app = get_app(consumer)
