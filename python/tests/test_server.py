"""A client and a worker of a server: `haulage serve`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import haulage
import pytest

from support import Program, line


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server over a database of its own, on a free port."""
    command = [sys.executable, "-m", "haulage", "serve", "--listen", "127.0.0.1:0"]
    environment = os.environ | {"HAULAGE_URL": f"sqlite://{tmp_path}/jobs.db"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        found = None
        for text in server.stderr:
            found = re.search(r"http://[0-9.:]+", text)
            if found:
                break
        assert found is not None, "the server does not say where it is"
        yield found[0]
        server.terminate()
        server.stderr.read()
        assert server.wait() == 0


def one_more(body: dict[str, int]) -> int:
    return body["n"] + 1


def test_jobs_go_to_a_server_and_its_workers_run_them(url: str) -> None:
    with haulage.connect(url) as client:
        job = client.submit({"n": 20})
        haulage.Worker(one_more, client, until_empty=True).run()
        assert job.result(timeout=60) == 21
        assert client.stats()["success"] == 1


def test_a_forked_child_has_a_connection_of_its_own(program: Program, url: str) -> None:
    process = program(
        """
        import os, sys, haulage
        client = haulage.connect(sys.argv[1])
        print(client.submit({"n": 1}).status(), flush=True)
        child = os.fork()
        if child == 0:
            print(haulage.connect(sys.argv[1]).submit({"n": 2}).status(), flush=True)
            sys.exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        print(client.stats()["visible"], flush=True)
        """,
        url,
    )
    assert [line(process) for _ in range(4)] == ["SUBMITTED", "SUBMITTED", "0", "2"]


def test_a_server_that_is_not_there_is_said() -> None:
    with pytest.raises(haulage.UnavailableError, match="cannot reach http://"):
        haulage.connect("http://127.0.0.1:1")
