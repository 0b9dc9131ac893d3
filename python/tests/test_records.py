"""`DynamoDBClient` on one machine, and where the compatible interface looks."""

from __future__ import annotations

import threading
from pathlib import Path

import haulage
import pytest
from haulage import DynamoDBClient, Producer, ResultStatus

from support import SOON


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    monkeypatch.setenv("HAULAGE_URL", url)
    return url


def test_items_of_ones_own() -> None:
    client = DynamoDBClient("results")
    client.submitted_put("mine", ttl_seconds=60, request_id="r")
    with pytest.raises(haulage.KeyAlreadyExistsError):
        client.submitted_put("mine", ttl_seconds=60)
    assert client.status_get("mine") is ResultStatus.SUBMITTED
    client.in_progress_put("mine", ttl_seconds=60)
    assert DynamoDBClient("results").status_get("mine") is ResultStatus.IN_PROGRESS
    client.result_put("mine", {"x": None})
    assert client.result_get("mine") == {"x": None}
    assert client.item_get("mine")["request_id"] == "r"
    with pytest.raises(haulage.KeyAlreadyExistsError, match="it is SUCCESS"):
        client.in_progress_put("mine", ttl_seconds=60)
    client.error_put("other", ValueError("bad"))
    with pytest.raises(haulage.ResultErrorStatusError, match="bad"):
        client.result_get("other")
    client.submitted_put("short", ttl_seconds=0)
    with pytest.raises(haulage.ExpiredItemError):
        client.item_get("short")
    with pytest.raises(haulage.InvalidJSONError, match="NaN"):
        client.result_put("nan", float("nan"))


def test_a_poll_waits_for_an_item_of_ones_own() -> None:
    client = DynamoDBClient("results")
    client.submitted_put("mine", ttl_seconds=60)
    with pytest.raises(haulage.AwaitingResultTimeoutError):
        client.result_poll("mine", timeout_seconds=0.05, poll_time_seconds=0)
    threading.Timer(0.05, client.result_put, ["mine", 7]).start()
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
    theirs = DynamoDBClient("results", aws_access_key_id="A", aws_secret_access_key="a")
    with pytest.raises(haulage.ConfigError, match="one set of credentials"):
        Producer("jobs", ddb_client=theirs, aws_access_key_id="B", aws_secret_access_key="b")


def test_the_environment_adds_to_its_own_queue_on_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAULAGE_URL", "sqs://jobs.fifo?table=other&bucket=payloads&region=eu-north-1")
    records = DynamoDBClient("results", region_name="eu-central-1")
    url = Producer("jobs.fifo", ddb_client=records)._place.url
    assert url == "sqs://jobs.fifo?table=results&bucket=payloads&region=eu-central-1"
    assert (
        Producer("others", ddb_client=records)._place.url == "sqs://others?table=results&region=eu-central-1"
    )
