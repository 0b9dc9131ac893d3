"""What a child writes to its worker: damaged frames end as ``Closed``, whole ones read back.

``python fuzz/frames.py SECONDS [SEED]``. The target is ``python/haulage/_worker/frames.py``, by itself:
it needs nothing but the standard library.
"""

from __future__ import annotations

import importlib.util
import json
import random
import resource
import socket
import struct
import sys
import time
import traceback
from pathlib import Path

FILE = Path(__file__).parents[1] / "python/haulage/_worker/frames.py"
SPEC = importlib.util.spec_from_file_location("frames", FILE)
assert SPEC is not None and SPEC.loader is not None
frames = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(frames)

# More than all of this takes, and less than a length that somebody made up.
MEMORY = 1 << 30


def text(dice: random.Random) -> str:
    letters = 'a"\\{}[]:,1-é🚲\0\n '
    return "".join(dice.choice(letters) for _ in range(dice.randrange(40)))


def value(dice: random.Random) -> object:
    return dice.choice([None, True, -1, 0, 1, 2**31, 10**30, 1.5, "x", [], {}, [1], text(dice)])


def header(dice: random.Random) -> bytes:
    """A message's first frame, as somebody else might write it."""
    made = {"texts": value(dice), text(dice): value(dice)}
    odd = dice.choice([made, made, made, value(dice), {text(dice): value(dice)}])
    return json.dumps(odd).encode()


def frame(data: bytes, length: int | None = None) -> bytes:
    return struct.pack(">Q", len(data) if length is None else length) + data


def damaged(dice: random.Random, data: bytes) -> bytes:
    kind = dice.randrange(5)
    at = dice.randrange(len(data) + 1)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + dice.randbytes(dice.randrange(1, 9)) + data[at:]
    if kind == 2:
        flipped = bytearray(data)
        for _ in range(dice.randrange(1, 4)):
            flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
        return bytes(flipped)
    if kind == 3:
        return frame(header(dice), dice.choice([2**40, 2**63, 2**64 - 1, 2**31]))
    return frame(header(dice)) + b"".join(frame(dice.randbytes(dice.randrange(20))) for _ in range(3))


def received(data: bytes) -> list[tuple[object, list[str]]]:
    """What comes out of a line into which this was written."""
    ours, theirs = socket.socketpair()
    line = frames.Line(ours)
    messages: list[tuple[object, list[str]]] = []
    try:
        theirs.sendall(data)
        theirs.close()
        while True:
            messages.append(line.receive())
    except frames.Closed:
        return messages
    finally:
        line.close()


def written(messages: list[tuple[dict[str, object], list[str]]]) -> bytes:
    ours, theirs = socket.socketpair()
    line = frames.Line(ours)
    for message, texts in messages:
        line.send(message, texts)
    line.close()
    with theirs, theirs.makefile("rb") as read:
        return read.read()


def main() -> int:
    seconds = float(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().getrandbits(32)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        dice = random.Random(f"{seed}-{number}")
        messages = [
            ({"call": dice.randrange(9), "body": text(dice)}, [text(dice) for _ in range(dice.randrange(4))])
            for _ in range(dice.randrange(1, 4))
        ]
        data = written(messages)
        back = received(data)
        whole = [({**message, "texts": len(texts)}, texts) for message, texts in messages]
        bad = damaged(dice, data)
        try:
            assert back == whole, "what was written reads back"
            received(bad)
        except BaseException:
            traceback.print_exc()
            print(f"frames: seed {seed}, run {number}, of {bad!r}", file=sys.stderr)
            return 1
        number += 1
    print(f"frames: {number} runs in {seconds:.0f} s, seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
