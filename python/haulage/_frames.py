"""What a worker and its child processes say to each other: frames over a pair of sockets.

A frame is its length, in 8 bytes, and as much UTF-8 text. A message is a frame with a JSON
object; its ``texts`` is the number of frames behind it, which hold bodies or results.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from typing import Any

_LENGTH = struct.Struct(">Q")
# More than any document has, and any call jobs: a frame beyond that is not ours.
_LONGEST = 1 << 29
_MOST_TEXTS = 1 << 16


class Closed(Exception):
    """The other side is gone."""


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
        data = b"".join(_framed(part.encode()) for part in parts)
        with self._lock:
            try:
                self._socket.sendall(data)
            except OSError as error:
                raise Closed from error

    def receive(self) -> tuple[dict[str, Any], list[str]]:
        """Waits for the next message."""
        try:
            message: dict[str, Any] = json.loads(self._frame())
            texts = message["texts"]
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            # Not ours: somebody else wrote to the descriptor.
            raise Closed from error
        if type(texts) is not int or not 0 <= texts <= _MOST_TEXTS:
            raise Closed
        return message, [self._frame() for _ in range(texts)]

    def _frame(self) -> str:
        try:
            head = self._read.read(_LENGTH.size)
            if len(head) == _LENGTH.size:
                (length,) = _LENGTH.unpack(head)
                data: bytes = self._read.read(length) if length <= _LONGEST else b""
                if len(data) == length:
                    return data.decode()
        except (OSError, ValueError) as error:
            raise Closed from error
        raise Closed

    def hang_up(self) -> None:
        """Ends every wait on it, here and on the other side. What came in can still be read."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hangs up, and gives the descriptor back."""
        self.hang_up()
        self._read.close()
        self._socket.close()


def _framed(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data
