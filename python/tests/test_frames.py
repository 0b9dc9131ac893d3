"""What a child and its worker write is bounded, whatever it is (``fuzz/frames.py`` tries much more of it),
and whoever is left knows which side went."""

from __future__ import annotations

import json
import socket
import struct

import pytest
from haulage._worker.frames import Closed, Line


def _frame(data: bytes, length: int | None = None) -> bytes:
    return struct.pack(">4sQ", b"hlg1", len(data) if length is None else length) + data


@pytest.mark.parametrize(
    "written",
    [
        _frame(b"{}"),
        _frame(b"[1]"),
        _frame(b"null"),
        _frame(b"[" * 100_000),
        _frame(json.dumps({"texts": 10**9}).encode()),
        _frame(json.dumps({"texts": -1}).encode()),
        _frame(json.dumps({"texts": 1.5}).encode()),
        _frame(b'{"texts": 1}') + _frame(b"", 2**40),
        _frame(b"", 2**63),
        _frame(b"\xff"),
        # Without the mark, it is known before anything is waited for.
        struct.pack(">Q", 1000) + b"{}  ",
    ],
)
def test_what_is_no_message_ends_the_line_and_nothing_else(written: bytes) -> None:
    ours, theirs = socket.socketpair()
    line = Line(ours)
    with theirs:
        theirs.sendall(written)
        with pytest.raises(Closed):
            if not line.receive()[1]:
                theirs.shutdown(socket.SHUT_WR)
                line.receive()
    line.close()


@pytest.mark.parametrize("unread", [False, True])
@pytest.mark.parametrize("sends", [False, True])
def test_the_other_side_is_gone_whatever_it_had_not_read(unread: bool, sends: bool) -> None:
    ours, theirs = socket.socketpair()
    line = Line(ours)
    if unread:
        line.send({"ready": {}})
    theirs.close()
    with pytest.raises(Closed) as closed:
        # The first send may be what is told of what was not read.
        line.send({}) if sends else line.receive()
    assert closed.value.__cause__ is None, "what a handler has started ends with this process"
    line.close()


def test_an_end_that_this_side_closed_is_not_taken_for_the_other_ones() -> None:
    ours, theirs = socket.socketpair()
    line = Line(ours)
    with theirs:
        line.close()
        for use in (line.receive, lambda: line.send({})):
            with pytest.raises(Closed) as closed:
                use()
            assert closed.value.__cause__ is not None
