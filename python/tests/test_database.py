"""The files of an embedded database, as a program uses them."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import haulage
import pytest
from haulage import Producer

from support import SOON, Program, line, until


def jobs(path: Path) -> int:
    with haulage.connect(f"sqlite://{path}") as client:
        return int(client.stats()["visible"])


LOOK = """
    import haulage, os, sqlite3, sys
    client = haulage.connect("sqlite://jobs.db")
    first = [client.submit(n) for n in range(5)]
    own = sqlite3.connect("jobs.db")
    assert own.execute("SELECT count(*) FROM jobs").fetchone() == (5,)
    own.close()
    open("jobs.db", "rb").close()
    print("looked", flush=True)
    sys.stdin.readline()
    more = [client.submit(n) for n in range(100)]
    print(client.stats()["visible"], flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_program_with_another_sqlite_loses_no_acknowledged_job(program: Program, tmp_path: Path) -> None:
    process = program(LOOK)
    assert line(process) == "looked"
    # Another process comes and goes meanwhile, with Haulage or with anything else.
    with haulage.connect(f"sqlite://{tmp_path}/jobs.db") as other:
        other.submit_many(range(20))
    with_sqlite = sqlite3.connect(tmp_path / "jobs.db")
    assert with_sqlite.execute("SELECT count(*) FROM jobs").fetchone() == (25,)
    with_sqlite.close()
    assert (tmp_path / "jobs.db-wal").exists()
    process.communicate("\n", timeout=SOON)
    assert process.returncode == -9
    assert jobs(tmp_path / "jobs.db") == 125


def test_when_a_program_has_ended_the_file_alone_is_a_copy(program: Program, tmp_path: Path) -> None:
    process = program("""
        import haulage
        client = haulage.connect("sqlite://jobs.db")
        client.submit_many(range(3))
    """)
    _, errors = process.communicate(timeout=SOON)
    assert (process.returncode, errors) == (0, "")
    assert not (tmp_path / "jobs.db-wal").exists()
    shutil.copy(tmp_path / "jobs.db", tmp_path / "copy.db")
    assert jobs(tmp_path / "copy.db") == 3


def test_a_client_is_closed_with_its_block(url: str, tmp_path: Path) -> None:
    with haulage.connect(url) as client:
        client.submit(1)
        assert (tmp_path / "jobs.db-wal").exists()
    assert not (tmp_path / "jobs.db-wal").exists()
    with pytest.raises(haulage.UnavailableError, match="was closed: nothing was stored"):
        client.submit(2)
    assert jobs(tmp_path / "jobs.db") == 1


def test_a_client_is_closed_with_its_async_block(url: str, tmp_path: Path) -> None:
    async def program() -> None:
        async with await haulage.connect_async(url) as client:
            await client.submit_async(1)

    asyncio.run(program())
    assert not (tmp_path / "jobs.db-wal").exists()


def test_a_query_looks_inside_and_changes_nothing(client: haulage.Client) -> None:
    client.submit_many([1, {"n": 2}])
    found = client.sql("SELECT status, body, NULL AS empty FROM jobs ORDER BY body")
    assert found == [
        {"status": "SUBMITTED", "body": "1", "empty": None},
        {"status": "SUBMITTED", "body": '{"n":2}', "empty": None},
    ]
    assert asyncio.run(client.sql_async("SELECT count(*) AS n FROM jobs")) == [{"n": 2}]
    for wrong, why in [("DELETE FROM job", "can only read"), ("SELECT nonsense", "no such column")]:
        with pytest.raises(haulage.InvalidArgumentError, match=why):
            client.sql(wrong)
    with pytest.raises(haulage.InvalidArgumentError, match="only an embedded database"):
        haulage.connect("memory://").sql("SELECT 1")


@pytest.mark.parametrize("name", ["../escaped", "a/b", "..", "", "nul\0", "back\\slash"])
def test_a_queue_name_leaves_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    (tmp_path / "queues").mkdir()
    monkeypatch.setenv("HAULAGE_URL", f"sqlite://{tmp_path}/queues/{{queue}}.db")
    with pytest.raises(ValueError, match="is not a name for a queue"):
        Producer(queue_name=name, ddb_client=haulage.DynamoDBClient(table_name="results"))
    assert [path.name for path in tmp_path.rglob("*")] == ["queues"]


def test_a_worker_that_is_not_ready_tells_its_store_until_it_is(client: haulage.Client) -> None:
    server = threading.Event()

    def handler(body: int) -> int:
        if not server.is_set():
            raise haulage.NotReady("the model server is down")
        return body

    def told() -> list[dict[str, Any]]:
        return client.sql("SELECT worker, queues, reason FROM unready")

    with haulage.Worker(handler, client, worker_name="gpu-7", queues="high,default"):
        job = client.submit(7)
        until(told)
        known = {"worker": "gpu-7", "queues": '["high","default"]', "reason": "the model server is down"}
        assert told() == [known]
        server.set()
        assert job.result(SOON) == 7
        until(lambda: not told())
