"""Tries a server by its document: `run.py HAULAGE`, the program.

It starts `haulage serve` over a new database with jobs of every status, once without keys and once
with them, and lets schemathesis send what `/openapi.json` allows, what it forbids, and what follows
from answers. Afterwards the server still has to answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
# So long until a wait is given up, in seconds. A busy machine is slow.
SOON = 180.0
SEED = 4711
# How many requests are made up for each operation, in each of two phases.
EXAMPLES = 25
# Fails with this on stdin, and echoes anything else.
HANDLER = 'read body; [ "$body" != 0 ] || exit 65; echo "$body"'

CONFIG = f"""
hooks = "hooks.py"
seed = {SEED}
max-failures = 20
continue-on-failure = true
# Longer than any of its answers takes on a slow machine.
request-timeout = {SOON}
# The first event of a job that has not ended tells enough.
max-stream-events = 1

[generation]
max-examples = {EXAMPLES}
database = "none"

[dictionaries.jobs]
values = %s

[parameters]
"path.id" = {{ dictionary = "jobs", probability = 0.7 }}

# A job may be gone, over, or not be there at all.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "404", "409", "410"]

# A failure is a failure, and the rest is nothing to read each time.
[warnings]
enabled = false
"""


class Haulage:
    """The program, on one store or server."""

    def __init__(self, program: str, url: str, key: str = "") -> None:
        self.program = program
        self.env = {**os.environ, "HAULAGE_URL": url, "HAULAGE_KEY": key}

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run([self.program, *arguments], env=self.env, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"haulage {' '.join(arguments)} ended with code {done.returncode}: {done.stderr}")
        return done.stdout.strip()

    @contextlib.contextmanager
    def running(self, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        with log.open("wb") as file:
            process = subprocess.Popen([self.program, *arguments], env=self.env, stderr=file, stdout=file)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def jobs(haulage: Haulage) -> list[str]:
    """Submits jobs, one for each way in which they can be; their ids. What works them is to follow."""
    ids = [haulage("submit", '{"a": [1, null]}'), haulage("submit", "--max-attempts", "1", "0")]
    haulage("worker", "--until-empty", "--shell", HANDLER)
    ids.append(haulage("submit", "2"))
    haulage("cancel", ids[-1])
    ids += [haulage("submit", "--queue", "paused", "3"), haulage("submit", "--delay", "1h", "4")]
    haulage("queue", "pause", "paused")
    ids += [haulage("submit", "--group", "g", "--metadata", "user=anna", str(n)) for n in (5, 6)]
    return [*ids, haulage("submit", "--queue", "busy", "7")]


def until_found(log: Path, pattern: str, process: subprocess.Popen[bytes]) -> str:
    """What the log of a program says."""
    until = time.monotonic() + SOON
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(pattern, log.read_text()):
            return found[1]
        time.sleep(0.05)
    sys.exit(f"it does not say {pattern}: {log.read_text()}")


def until_begun(haulage: Haulage, job: str) -> None:
    until = time.monotonic() + SOON
    while json.loads(haulage("status", "--json", job))["status"] != "IN_PROGRESS":
        if time.monotonic() > until:
            sys.exit("the worker does not begin")
        time.sleep(0.05)


def tried(program: str, with_keys: bool) -> bool:
    """Whether all went well with a server of its own."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        store = Haulage(program, f"sqlite://{folder}/jobs.db")
        ids = jobs(store)
        key = ""
        if with_keys:
            key = store("key", "create", "--name", "test", "--scope", "submit,read,work,operate")
        working = ("worker", "--queue", "busy", "--shell", "exec sleep 100000")
        stack.enter_context(store.running(folder / "worker.log", *working))
        until_begun(store, ids[-1])
        log = folder / "serve.log"
        server = stack.enter_context(store.running(log, "serve", "--listen", "127.0.0.1:0"))
        url = until_found(log, r"serving on (http://\S+?)[\s,]", server)
        config = folder / "schemathesis.toml"
        config.write_text(CONFIG.replace("hooks.py", str(HERE / "hooks.py")) % json.dumps(ids))
        command = [Path(sys.executable).with_name("schemathesis"), "--config-file", config, "run"]
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        for header in headers.items():
            command += ["--header", ": ".join(header)]
        print(f"with keys: {with_keys}", flush=True)
        done = subprocess.run([*command, "--no-color", f"{url}/openapi.json"], cwd=folder)
        request = urllib.request.Request(f"{url}/v1/stats", headers=headers)
        with urllib.request.urlopen(request, timeout=SOON) as answer:
            goes_on = answer.status == 200 and server.poll() is None
        said = log.read_text()
        if not goes_on or "panicked" in said:
            print(f"the server fails:\n{said}", file=sys.stderr)
            return False
        return done.returncode == 0


if __name__ == "__main__":
    haulage_program = str(Path(sys.argv[1]).resolve())
    sys.exit(not all([tried(haulage_program, with_keys) for with_keys in (False, True)]))
