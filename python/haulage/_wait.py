"""Waiting for the core in an event loop."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator
    from typing import Any

    from ._haulage import Operation, Record


def resolve(future: asyncio.Future[None]) -> None:
    """Ends a wait, if somebody still waits."""
    if not future.done():
        future.set_result(None)


async def _news(operation: Operation) -> None:
    import asyncio

    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    if operation.notify(lambda: loop.call_soon_threadsafe(resolve, future)):
        try:
            await future
        except BaseException:  # cancelled, or dropped with its event loop
            operation.abort()
            raise


async def ended(operation: Operation) -> Any:
    """What an operation without items brings."""
    await _news(operation)
    return operation.wait()


async def items(operation: Operation) -> AsyncIterator[tuple[int, Record]]:
    """The records that an operation brings, as they come."""
    try:
        while True:
            await _news(operation)
            batch = operation.wait_items()
            if batch is None:
                return
            for item in batch:
                yield item
    finally:
        operation.abort()
