"""The application that runs a consumer and answers for its health."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import sys
from typing import TYPE_CHECKING, Any

from .. import _haulage
from ..errors import BaseError
from .errors import SQSConnectionError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping

    from fastapi import APIRouter

    from .consumer import Consumer

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_log = logging.getLogger("haulage")


def get_app(consumer: Consumer, **options: Any) -> App:
    """An ASGI application that runs the consumer, and answers for its health; any ASGI server serves it.

    The consumer starts with the application, unless it runs already, and stops with it: what it
    works on is finished, or given back after the consumer's ``shutdown_grace_period``.
    ``/health`` answers 200, or 500 where the consumer does not run; ``/ready`` the same, and 500
    where its queue does not answer; ``/busy`` answers 200, or 503 while a job is being processed.

    Where FastAPI is installed (``pip install 'haulage[fastapi]'``), it is a ``FastAPI``, made with
    ``options``, to which routes can be added. Without it, options are refused.
    """
    if importlib.util.find_spec("fastapi") is not None:
        return _fastapi(consumer, options)
    if options:
        raise TypeError(
            f"get_app was given {', '.join(options)}, which are FastAPI's; install it with "
            "pip install 'haulage[fastapi]'"
        )

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(consumer, receive, send)
        elif scope["type"] == "http":
            status, body, more = await _answer(consumer, scope["method"], scope["path"])
            text = json.dumps(body, separators=(",", ":")).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
            await send({"type": "http.response.start", "status": status, "headers": headers + more})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else text})
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    return app


def get_router(consumer: Consumer) -> APIRouter:
    """The pages of ``get_app`` as a router for a FastAPI application of your own.

    It does not start the consumer. ``ImportError`` where FastAPI is not installed.
    """
    try:
        from fastapi import APIRouter, HTTPException
    except ImportError as error:
        raise ImportError("get_router needs FastAPI: pip install 'haulage[fastapi]'") from error
    router = APIRouter()

    def add(path: str, page: Callable[[Consumer], tuple[int, str]]) -> None:
        # In a thread, as FastAPI does with it: the queue may take its time.
        def answer() -> dict[str, str]:
            status, text = page(consumer)
            if status != 200:
                raise HTTPException(status, text)
            return {"status": text}

        router.add_api_route(path, answer, methods=["GET"], name=path[1:], summary=page.__doc__)

    for path, page in _PAGES.items():
        add(path, page)
    return router


def _fastapi(consumer: Consumer, options: dict[str, Any]) -> App:
    from fastapi import FastAPI

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        await _start(consumer)
        yield
        await _stop(consumer)

    options.setdefault("title", "Consumer")
    options.setdefault("version", _haulage.VERSION)
    app = FastAPI(lifespan=lifespan, **options)
    app.add_middleware(_Sentences)
    app.include_router(get_router(consumer))
    return app


class _Sentences:
    """Tells a server in a sentence why the consumer does not start, where Starlette tells a traceback."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        async def plainly(message: Message) -> None:
            # Starlette tells of an error while it handles it.
            error = sys.exc_info()[1]
            if message["type"].endswith(".failed") and isinstance(error, BaseError):
                message = {**message, "message": str(error)}
            await send(message)

        await self._app(scope, receive, plainly if scope["type"] == "lifespan" else send)


async def _start(consumer: Consumer) -> None:
    if not consumer.is_running:
        # In a thread, as to stop, too: both may take their time.
        await asyncio.get_running_loop().run_in_executor(None, consumer.start_consuming)


async def _stop(consumer: Consumer) -> None:
    await asyncio.get_running_loop().run_in_executor(None, consumer.stop_consuming, None)


async def _lifespan(consumer: Consumer, receive: Receive, send: Send) -> None:
    while True:
        event = (await receive())["type"]
        try:
            await (_stop if event == "lifespan.shutdown" else _start)(consumer)
        except Exception as error:
            # The server tells the message; of an error that nobody foresaw, that is not enough.
            if not isinstance(error, BaseError):
                _log.exception("the consumer of %s: %s failed", consumer.queue_name, event)
            await send({"type": f"{event}.failed", "message": str(error)})
            return
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


def _health(consumer: Consumer) -> tuple[int, str]:
    """Whether the consumer runs"""
    return (200, "healthy") if consumer.is_running else (500, "Consumer is not running")


def _ready(consumer: Consumer) -> tuple[int, str]:
    """Whether the consumer runs, and its queue answers"""
    if not consumer.is_running:
        return _health(consumer)
    try:
        consumer.ping_queue()
    except SQSConnectionError as error:
        return 500, f"Queue can't be reached: {error}"
    return 200, "ready"


def _busy(consumer: Consumer) -> tuple[int, str]:
    """Whether no job is being processed"""
    if consumer.is_processing_message:
        return 503, "Consumer is already processing a message"
    return 200, "ready"


_PAGES = {"/health": _health, "/ready": _ready, "/busy": _busy}


async def _answer(
    consumer: Consumer, method: str, path: str
) -> tuple[int, dict[str, str], list[tuple[bytes, bytes]]]:
    page = _PAGES.get(path)
    if page is None:
        return 404, {"detail": "Not Found"}, []
    if method not in ("GET", "HEAD"):
        return 405, {"detail": "Method Not Allowed"}, [(b"allow", b"GET, HEAD")]
    # In a thread, as the queue may take its time.
    status, text = await asyncio.get_running_loop().run_in_executor(None, page, consumer)
    return status, {"status" if status == 200 else "detail": text}, []
