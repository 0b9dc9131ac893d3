"""What a worker and its child processes say to each other: frames over pipes.

A frame is its length, in 8 bytes, and as much UTF-8 text. A message is a frame with a JSON
object; its ``texts`` is the number of frames behind it, which hold bodies or results.
"""

from __future__ import annotations

import json
import os
import struct
import threading
from typing import Any

_LENGTH = struct.Struct(">Q")


class Closed(Exception):
    """The other side is gone."""


class Pipes:
    """The two ends of one side."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read = open(read_fd, "rb", buffering=1 << 16)  # noqa: SIM115
        self._write_fd = write_fd
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any], texts: list[str] | None = None) -> None:
        """Sends a message, from any thread."""
        texts = texts or []
        parts = [json.dumps({**message, "texts": len(texts)}), *texts]
        data = b"".join(_framed(part.encode()) for part in parts)
        with self._lock:
            view = memoryview(data)
            try:
                while view:
                    view = view[os.write(self._write_fd, view) :]
            except OSError as error:
                raise Closed from error

    def receive(self) -> tuple[dict[str, Any], list[str]]:
        """Waits for the next message."""
        message: dict[str, Any] = json.loads(self._frame())
        return message, [self._frame() for _ in range(message["texts"])]

    def _frame(self) -> str:
        try:
            head = self._read.read(_LENGTH.size)
            if len(head) == _LENGTH.size:
                (length,) = _LENGTH.unpack(head)
                data = self._read.read(length)
                if len(data) == length:
                    return data.decode()
        except (OSError, ValueError) as error:
            raise Closed from error
        raise Closed

    def close(self) -> None:
        """Lets the other side know that there will be no more."""
        with self._lock:
            if self._write_fd >= 0:
                os.close(self._write_fd)
                self._write_fd = -1


def _framed(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data
