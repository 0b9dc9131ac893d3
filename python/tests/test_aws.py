"""The package on SQS and DynamoDB: what differs from the embedded backend, on a local server."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import haulage
import pytest
from haulage import Consumer, DynamoDBClient, Producer, ResultStatus, Status

from servers import ministack
from support import SOON, Program, line


def call(service: str, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A call of AWS as its protocol has it; local servers check no signature."""
    kind = "sqs" if service == "AmazonSQS" else "dynamodb"
    credential = f"AWS4-HMAC-SHA256 Credential=local/20240101/us-east-1/{kind}/aws4_request"
    request = urllib.request.Request(
        os.environ["AWS_ENDPOINT_URL"],
        json.dumps(arguments).encode(),
        {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"{service}.{operation}",
            "Authorization": f"{credential}, SignedHeaders=host, Signature=0",
        },
    )
    with urllib.request.urlopen(request, timeout=SOON) as answer:
        result: dict[str, Any] = json.load(answer)
    return result


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    with ministack():
        yield


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A queue and a table of their own."""
    monkeypatch.delenv("HAULAGE_URL", raising=False)
    queue, table = f"jobs-{uuid.uuid4().hex[:8]}.fifo", f"results-{uuid.uuid4().hex[:8]}"
    fifo = {"FifoQueue": "true", "DeduplicationScope": "messageGroup", "VisibilityTimeout": "30"}
    fifo["FifoThroughputLimit"] = "perMessageGroupId"
    call("AmazonSQS", "CreateQueue", {"QueueName": queue, "Attributes": fifo})
    call(
        "DynamoDB_20120810",
        "CreateTable",
        {
            "TableName": table,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "message_id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "message_id", "KeyType": "HASH"}],
        },
    )
    return queue, table


def test_the_compatible_interface(names: tuple[str, str]) -> None:
    queue, table = names

    def double(body: dict[str, int], message_id: str) -> dict[str, Any]:
        if body["number"] < 0:
            raise ValueError("negative")
        return {"double": body["number"] * 2, "id": message_id}

    consumer = Consumer(
        queue_name=queue,
        ddb_client=DynamoDBClient(table=table),
        compute_result=double,
        enable_ecs_scalein_protection=False,
        non_retryable_errors=[ValueError],
    )
    producer = Producer(queue_name=queue, ddb_client=DynamoDBClient(table=table))
    id_ = producer.post_non_blocking({"number": 4}, request_id="r-1")
    assert producer.retrieve_result_status(id_) is ResultStatus.SUBMITTED
    consumer.start_consuming()
    assert consumer.ping_queue()
    assert producer.retrieve_result(id_).result == {"double": 8, "id": id_}
    response = producer.post({"number": 5}, request_id="r-2")
    assert (response.status, response.status_code, response.request_id) == ("success", 200, "r-2")
    assert response.result["double"] == 10
    failed = producer.post({"number": -1})
    assert isinstance(failed.error, haulage.ResultErrorStatusError) and "negative" in str(failed.error)
    item = producer.ddb_client.item_get(id_)
    assert (item.status, item.request_id, item.result["double"]) == ("success", "r-1", 8)
    with pytest.raises(haulage.KeyNotFoundError):
        producer.retrieve_result_status(str(uuid.uuid4()))
    with pytest.raises(haulage.DDBError, match="is a job of the queue"):
        producer.ddb_client.result_put(message_id=id_, result=1)
    assert not producer.ddb_client.item_exists("nobody") and not producer.ddb_client.result_exists("nobody")
    consumer.stop_consuming()


def test_a_forked_child_has_a_connection_of_its_own(program: Program, names: tuple[str, str]) -> None:
    queue, table = names
    process = program(
        """
        import os, sys, haulage
        client = haulage.connect(sys.argv[1])
        print(client.submit(1).status(), flush=True)
        child = os.fork()
        if child == 0:
            print(haulage.connect(sys.argv[1]).submit(2).status(), flush=True)
            sys.exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        print(client.submit(3).status(), flush=True)
        """,
        f"sqs://{queue}?table={table}",
    )
    assert [line(process) for _ in range(4)] == ["SUBMITTED", "SUBMITTED", "0", "SUBMITTED"]


def test_a_ping_is_of_the_queue(names: tuple[str, str]) -> None:
    queue, table = names
    consumer = Consumer(
        queue,
        ddb_client=DynamoDBClient(table),
        compute_result=lambda body, message_id: body,
        enable_ecs_scalein_protection=False,
    )
    assert consumer.ping_queue() == "pong"
    url = call("AmazonSQS", "GetQueueUrl", {"QueueName": queue})["QueueUrl"]
    call("AmazonSQS", "DeleteQueue", {"QueueUrl": url})
    with pytest.raises(haulage.SQSConnectionError, match=queue):
        consumer.ping_queue()


def test_records_of_ones_own(names: tuple[str, str]) -> None:
    _, table = names
    records = DynamoDBClient(table)
    with pytest.raises(haulage.KeyNotFoundError, match=f"no record mine in table {table}"):
        records.item_get("mine")
    records.submitted_put(600, message_id="mine", request_id="r-1")
    with pytest.raises(haulage.KeyAlreadyExistsError, match="it is submitted"):
        records.submitted_put(600, message_id="mine")
    with pytest.raises(haulage.ResultInProgressStatusError):
        records.result_get("mine")
    records.in_progress_put(600, message_id="mine")
    with pytest.raises(haulage.AwaitingResultTimeoutError):
        records.result_poll("mine", timeout_seconds=0.1, poll_time_seconds=0.01)
    records.result_put(message_id="mine", result=None)
    assert records.result_poll("mine") is None and records.result_exists("mine")
    item = records.item_get("mine")
    assert (item.status, item.result, item.request_id) == ("success", None, "r-1")
    with pytest.raises(haulage.KeyAlreadyExistsError, match="it is success"):
        records.error_put("late", message_id="mine")
    records.error_put(ValueError("no"), message_id="other")
    with pytest.raises(haulage.ResultErrorStatusError, match="no"):
        records.result_get("other")
    records.submitted_put(0, message_id="short")
    with pytest.raises(haulage.ExpiredItemError):
        records.item_get("short")
    assert records.status_get("short") is ResultStatus.ERROR


def test_a_table_alone_has_the_results_of_jobs(names: tuple[str, str]) -> None:
    queue, table = names
    producer = Producer(queue, ddb_client=DynamoDBClient(table))
    id_ = producer.post_non_blocking({"number": 4})
    records = DynamoDBClient(table=table)
    assert records.status_get(id_) is ResultStatus.SUBMITTED
    with haulage.Worker(lambda body: [body["number"]], f"sqs://{queue}?table={table}", claim_wait=1):
        assert records.result_poll(id_, SOON) == [4]
    with pytest.raises(haulage.DDBError, match="is a job of the queue"):
        records.in_progress_put(60, message_id=id_)


def test_a_record_that_others_have_written_wrongly(names: tuple[str, str]) -> None:
    _, table = names
    item = {"message_id": {"S": "odd"}, "status": {"S": "success"}, "result": {"S": "{not JSON"}}
    call("DynamoDB_20120810", "PutItem", {"TableName": table, "Item": item})
    with pytest.raises(haulage.UnparseableItemError, match="the result of odd"):
        DynamoDBClient(table).item_get("odd")


def test_without_protection_no_job_is_run(names: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    queue, table = names
    monkeypatch.setenv("ECS_AGENT_URI", "http://127.0.0.1:1")
    ran: list[str] = []

    def work(body: Any, message_id: str) -> None:
        ran.append(message_id)

    consumer = Consumer(queue, ddb_client=DynamoDBClient(table), compute_result=work)
    consumer.start_consuming()
    producer = Producer(queue, ddb_client=DynamoDBClient(table), timeout_seconds=5)
    response = producer.post(1)
    assert isinstance(response.error, haulage.AwaitingResultTimeoutError)
    assert ran == []
    consumer.stop_consuming(30)


def test_credentials_and_endpoints_by_boto3s_names(
    names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, table = names
    settings: Any = {
        "region_name": os.environ["AWS_REGION"],
        "endpoint_url": os.environ["AWS_ENDPOINT_URL"],
        "aws_access_key_id": "local",
        "aws_secret_access_key": "local",
    }
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    producer = Producer(queue, ddb_client=DynamoDBClient(table), **settings)
    assert producer.retrieve_result_status(producer.post_non_blocking(1)) is ResultStatus.SUBMITTED


def test_the_modern_interface(names: tuple[str, str]) -> None:
    queue, table = names
    client = haulage.connect(f"sqs://{queue}?table={table}")
    assert client.backend == "aws"

    def handler(body: Any, ctx: haulage.Context) -> Any:
        ctx.set_progress(0.5)
        return [body, ctx.attempt]

    with haulage.Worker(handler, client, concurrency=4, claim_wait=1):
        assert list(client.map(range(10), wait_timeout=SOON)) == [[n, 1] for n in range(10)]

        async def main() -> None:
            job = await client.submit_async("x")
            assert await job.result_async(SOON) == ["x", 1]
            assert await job.status_async() is Status.SUCCESS

        asyncio.run(main())


def test_a_queue_that_is_not_there_is_named() -> None:
    with pytest.raises(haulage.ConfigError, match="nowhere"):
        haulage.connect("sqs://nowhere?table=nowhere")
