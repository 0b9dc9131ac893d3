"""What a worker and its child processes say to each other: frames over a pair of sockets.

A frame is a mark, its length, in 8 bytes, and as much UTF-8 text. A message is a frame with a
JSON object; its ``texts`` is the number of frames behind it, which hold bodies or results.

A handler shares its process with one of the sides, so anything may be written to the socket.
What is no frame is noticed before it is waited for, or takes memory.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from typing import Any

_HEAD = struct.Struct(">4sQ")
_MARK = b"hlg1"
# More than any document has, and any call jobs: what is beyond that is not ours.
_MOST_BYTES = 1 << 29
_MOST_TEXTS = 1 << 16
# How much is read at once: memory is taken for what came, not for what is promised.
_PART = 1 << 20


class Closed(Exception):
    """The other side is gone; with a cause, it is this side that has closed its end."""


class Garbled(Closed):
    """What came is not from the other side, or it has lost its way: there is no going on."""


class TooLarge(Exception):
    """A text that no frame holds, and no backend takes. Nothing was sent."""


class Line:
    """One side's end.

    A socket, as it can be closed for whoever waits on it, in both directions, though others
    may hold the other end: programs that a handler has started.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._read = end.makefile("rb", buffering=1 << 16)
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any], texts: list[str] | None = None) -> None:
        """Sends a message, from any thread. May wait for the other side to read."""
        texts = texts or []
        parts = [json.dumps({**message, "texts": len(texts)}), *texts]
        data = b"".join(map(_framed, parts))
        with self._lock:
            try:
                self._socket.sendall(data)
            except OSError as error:
                raise Closed from _ours(error)

    def receive(self, most_texts: int = _MOST_TEXTS) -> tuple[dict[str, Any], list[str]]:
        """Waits for the next message, with as many texts at most."""
        try:
            message = json.loads(self._frame())
            count = message["texts"]
            if type(count) is not int or not 0 <= count <= most_texts:
                raise Garbled
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Garbled from error
        return message, [self._frame() for _ in range(count)]

    def _frame(self) -> str:
        mark, length = _HEAD.unpack(self._bytes(_HEAD.size))
        if mark != _MARK or length > _MOST_BYTES:
            raise Garbled
        try:
            return self._bytes(length).decode()
        except UnicodeDecodeError as error:
            raise Garbled from error

    def _bytes(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            try:
                part = self._read.read(min(_PART, length - len(data)))
            except (OSError, ValueError) as error:
                raise Closed from _ours(error)
            if not part:
                raise Closed
            data += part
        return bytes(data)

    def hang_up(self) -> None:
        """Ends every wait on it, here and on the other side. What came in can still be read."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hangs up, and gives the descriptor back."""
        self.hang_up()
        self._read.close()
        self._socket.close()


def _ours(error: OSError | ValueError) -> OSError | ValueError | None:
    """The error where this side is its cause. A reset is not: the other one went before it had
    read all that was sent to it."""
    return None if isinstance(error, ConnectionError) else error


def _framed(text: str) -> bytes:
    data = text.encode()
    if len(data) > _MOST_BYTES:
        raise TooLarge(f"it has {len(data)} bytes, and {_MOST_BYTES} is the most")
    return _HEAD.pack(_MARK, len(data)) + data
