"""`DynamoDBClient` on one machine, and where the compatible interface looks."""

from __future__ import annotations

import threading
from pathlib import Path

import haulage
import pytest
from haulage import DynamoDBClient, DynamoDBItem, Producer, ResultStatus

from support import SOON


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    monkeypatch.setenv("HAULAGE_URL", url)
    return url


def test_items_of_ones_own() -> None:
    client = DynamoDBClient("results")
    client.submitted_put(60, message_id="mine", request_id="r")
    with pytest.raises(haulage.KeyAlreadyExistsError):
        client.submitted_put(60, message_id="mine")
    assert client.status_get("mine") is ResultStatus.SUBMITTED
    client.in_progress_put(60, message_id="mine")
    assert DynamoDBClient("results").status_get("mine") is ResultStatus.IN_PROGRESS
    client.result_put(message_id="mine", result={"x": None})
    assert client.result_get("mine") == {"x": None}
    assert client.item_get("mine").request_id == "r"
    with pytest.raises(haulage.KeyAlreadyExistsError, match="it is success"):
        client.in_progress_put(60, message_id="mine")
    client.error_put(ValueError("bad"), message_id="other")
    with pytest.raises(haulage.ResultErrorStatusError, match="ValueError: bad"):
        client.result_get("other")
    client.submitted_put(0, message_id="short")
    with pytest.raises(haulage.ExpiredItemError):
        client.item_get("short")
    with pytest.raises(haulage.InvalidJSONError, match="NaN"):
        client.result_put(message_id="nan", result=float("nan"))


def test_items_and_statuses_are_put_whole() -> None:
    client = DynamoDBClient("results")
    item = DynamoDBItem("mine", "r", ResultStatus.SUCCESS, {"x": 1})
    client.item_put(item)
    assert client.item_get("mine").result == {"x": 1}
    with pytest.raises(haulage.KeyAlreadyExistsError):
        client.item_put(item, allow_overwrite=False)
    client.item_put(message_id="other", status="in_progress", result=None)
    assert client.status_get("other") is ResultStatus.IN_PROGRESS
    client.status_put(status=ResultStatus.ERROR, message_id="other", error="no", serialised_message={})
    assert client.item_get("other").error == "no"
    client.error_put(message_id="third")
    assert client.item_get("third").error == "Unknown error"
    with pytest.raises(ValueError, match="cannot set a success"):
        client.status_put(status=ResultStatus.SUCCESS, message_id="x")
    with pytest.raises(ValueError, match="not with IN_PROGRESS"):
        client.status_put(status=ResultStatus.IN_PROGRESS, message_id="x", error="no")
    with pytest.raises(ValueError, match="a success, and has an error"):
        DynamoDBItem("x", error="no")
    client.submitted_put(0, message_id="short")
    assert client.status_get("short") is ResultStatus.ERROR
    assert client.item_get("short", raise_for_expiry=False).is_expired()


def test_a_poll_waits_for_an_id_that_comes_later() -> None:
    client = DynamoDBClient("results")
    threading.Timer(0.05, client.result_put, [], {"message_id": "late", "result": 7}).start()
    assert client.result_poll("late", timeout_seconds=SOON, poll_time_seconds=0.01) == 7


def test_a_poll_waits_for_an_item_of_ones_own() -> None:
    client = DynamoDBClient("results")
    client.submitted_put(60, message_id="mine")
    late = "^mine has no result after 0.05 s; it goes on, and can be waited for again$"
    with pytest.raises(haulage.AwaitingResultTimeoutError, match=late):
        client.result_poll("mine", timeout_seconds=0.05, poll_time_seconds=0)
    threading.Timer(0.05, client.result_put, [], {"message_id": "mine", "result": 7}).start()
    assert client.result_poll("mine", timeout_seconds=SOON, poll_time_seconds=0.01) == 7


def test_a_look_makes_no_file(tmp_path: Path) -> None:
    assert not DynamoDBClient("results").item_exists("nobody")
    assert not list(tmp_path.glob("*-items"))


def test_one_client_has_the_records_of_several_queues(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HAULAGE_URL", f"sqlite://{tmp_path}/{{queue}}.db")
    records = DynamoDBClient("results")
    ids = [Producer(queue, ddb_client=records).post_non_blocking(queue) for queue in ("a", "b")]
    assert [records.status_get(id_) for id_ in ids] == [ResultStatus.SUBMITTED] * 2


def test_credentials_are_not_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAULAGE_URL")
    theirs = DynamoDBClient(
        "results", aws_access_key_id="A", aws_secret_access_key="a", aws_session_token="t"
    )
    ours = Producer("jobs", ddb_client=theirs, aws_access_key_id="B", aws_secret_access_key="b")
    assert (ours._place._credentials, ours._place._table_credentials) == (("B", "b", None), ("A", "a", "t"))
    with pytest.raises(haulage.ConfigError, match="go together"):
        Producer("jobs", ddb_client=theirs, aws_access_key_id="B")


def test_the_environment_adds_to_its_own_table_on_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAULAGE_URL", "sqs://jobs.fifo?table=results&keep_successes=true&queue_owner=1")
    (own,) = DynamoDBClient("results", region_name="eu-central-1")._places
    assert own.records == "dynamodb://results?keep_successes=true&region=eu-central-1"
    (other,) = DynamoDBClient("others")._places
    assert other.records == "dynamodb://others?"


def test_the_environment_adds_to_its_own_queue_on_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    more = "bucket=payloads&keep_successes=true"
    monkeypatch.setenv("HAULAGE_URL", f"sqs://jobs.fifo?table=other&{more}&region=eu-north-1")
    records = DynamoDBClient("results", region_name="eu-central-1")
    place = Producer("jobs.fifo", ddb_client=records)._place
    assert place.url == f"sqs://jobs.fifo?table=results&{more}&region=eu-central-1"
    assert place.records == f"dynamodb://results?{more}&region=eu-central-1"
    assert (
        Producer("others", ddb_client=records)._place.url == "sqs://others?table=results&region=eu-central-1"
    )
