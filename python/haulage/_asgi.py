"""The health pages of a consumer, as a plain ASGI application."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from ._compat.consumer import Consumer

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_log = logging.getLogger("haulage")


def get_app(consumer: Consumer) -> App:
    """An ASGI application that runs the consumer, and answers for its health; any ASGI server serves it.

    The consumer starts with the application, unless it runs already, and stops with it: what it
    works on is finished, or given back after the consumer's ``shutdown_grace_period``.
    ``/health`` and ``/ready`` answer 200, or 500 where the consumer is stopped or its queue does
    not answer; ``/busy`` answers 200, or 503 while a job is being processed.
    """

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(consumer, receive, send)
        elif scope["type"] == "http":
            status, body, more = await _answer(consumer, scope["method"], scope["path"])
            text = json.dumps(body).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
            await send({"type": "http.response.start", "status": status, "headers": headers + more})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else text})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    return app


async def _lifespan(consumer: Consumer, receive: Receive, send: Send) -> None:
    loop = asyncio.get_running_loop()
    while True:
        event = (await receive())["type"]
        try:
            # In a thread, as both may take their time.
            if event == "lifespan.shutdown":
                await loop.run_in_executor(None, consumer.stop_consuming, None)
            elif not consumer.is_running:
                await loop.run_in_executor(None, consumer.start_consuming)
        except Exception as error:
            _log.exception("the consumer of %s: %s failed", consumer.queue_name, event)
            await send({"type": f"{event}.failed", "message": str(error)})
            return
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


async def _answer(
    consumer: Consumer, method: str, path: str
) -> tuple[int, dict[str, str], list[tuple[bytes, bytes]]]:
    if path not in ("/health", "/ready", "/busy"):
        return 404, {"status": "not found"}, []
    if method not in ("GET", "HEAD"):
        return 405, {"status": "method not allowed"}, [(b"allow", b"GET, HEAD")]
    if path == "/busy":
        busy = consumer.is_processing_message
        return (503, {"status": "busy"}, []) if busy else (200, {"status": "idle"}, [])
    if not consumer.is_running:
        return 500, {"status": "stopped"}, []
    # In a thread, as the queue may take its time.
    answers = await asyncio.get_running_loop().run_in_executor(None, consumer.ping_queue)
    return (200, {"status": "ok"}, []) if answers else (500, {"status": "the queue does not answer"}, [])
