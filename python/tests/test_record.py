"""A record as a value."""

from __future__ import annotations

import copy
import json
import pickle

import haulage
import pydantic
import pytest
from fastapi import FastAPI
from haulage import Record

from support import SOON, ask


@pytest.fixture
def record(client: haulage.Client) -> Record:
    job = client.submit(4, request_id="r-1", metadata={"a": "b"})
    with haulage.Worker(lambda body: body * 2, client):
        return job.wait(SOON)


def test_a_record_is_equal_to_what_another_look_finds(client: haulage.Client, record: Record) -> None:
    again, other = client.record(record.id), client.record(client.submit(5).id)
    assert record == again and hash(record) == hash(again)
    something: object = "something else"
    assert record != other and record != something


def test_a_record_is_plain_values_and_comes_back(record: Record) -> None:
    plain = record.to_dict()
    assert (plain["id"], plain["status"], plain["result"], plain["request_id"]) == (
        record.id,
        "SUCCESS",
        8,
        "r-1",
    )
    assert dict(record) == json.loads(record.to_json()) == plain
    for back in (
        pickle.loads(pickle.dumps(record)),
        copy.deepcopy(record),
        Record.from_json(record.to_json()),
    ):
        assert back == record and back.finished_at == record.finished_at
    with pytest.raises(haulage.InvalidJSONError, match="not a record"):
        Record.from_json("{}")


def test_fastapi_returns_records(record: Record) -> None:
    app = FastAPI()

    @app.get("/declared")
    def declared() -> Record:
        return record

    app.add_api_route("/plain", lambda: {"records": [record]})
    assert json.loads(ask(app, "/declared")[1]) == record.to_dict()
    assert json.loads(ask(app, "/plain")[1]) == {"records": [record.to_dict()]}

    class Model(pydantic.BaseModel):
        record: Record

    assert json.loads(Model(record=record).model_dump_json()) == {"record": record.to_dict()}
    with pytest.raises(pydantic.ValidationError):
        Model.model_validate({"record": 1})


def test_a_client_is_connected_anew_where_it_is_sent_and_one_of_memory_says_that_it_cannot(
    client: haulage.Client,
) -> None:
    job = client.submit(4)
    there = pickle.loads(pickle.dumps(job))
    assert there.id == job.id and there.status() is job.status()
    with pytest.raises(TypeError, match="in this process alone"):
        pickle.dumps(haulage.connect("memory://"))
    with pytest.raises(TypeError, match="send the body and the options"):
        pickle.dumps(haulage.NewJob(1))
