"""The settings of clients, by boto3's names: what they mean, and which are refused."""

from __future__ import annotations

import re
from typing import Any

import haulage
import pytest
from haulage import Consumer, DynamoDBClient, Producer, ResultStatus

from support import new_producer

pytestmark = pytest.mark.usefixtures("haulage_url")


def test_client_settings_are_boto3s(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: Any = {
        "region_name": "eu-central-1",
        "endpoint_url": "http://127.0.0.1:1",
        "aws_access_key_id": "k",
        "aws_secret_access_key": "s",
        "aws_session_token": None,
        "use_ssl": False,
    }
    producer = new_producer(**settings)
    monkeypatch.delenv("HAULAGE_URL")
    aws = new_producer(**settings)
    expected = "sqs://jobs.fifo?table=results&region=eu-central-1&endpoint=http%3A%2F%2F127.0.0.1%3A1"
    assert aws._place.url == expected
    assert producer._place.url.startswith("sqlite://")
    with pytest.raises(TypeError, match="region_nam"):
        new_producer(region_nam="x")
    with pytest.raises(haulage.ConfigError, match="go together"):
        new_producer(aws_access_key_id="k")
    with pytest.raises(TypeError, match="table_name or as table"):
        DynamoDBClient()
    assert new_producer(verify=True, api_version="2012-11-05", config=None).queue_name == "jobs.fifo"


class Config:
    """As botocore's: what was said to it is in an attribute."""

    def __init__(self, **options: Any) -> None:
        self._user_provided_options = options


REFUSED = [
    ({"verify": False}, "verify=False: certificates are always checked"),
    ({"verify": "/etc/ca.pem"}, "set SSL_CERT_FILE=/etc/ca.pem"),
    (
        {"config": Config(retries={}, region_name="eu-west-1")},
        "config= sets retries, and nothing but its region_name",
    ),
    ({"config": object()}, "config="),
    ({"api_version": "2011-10-01"}, "api_version='2011-10-01' is not 2012-11-05"),
    ({"use_ssl": False}, "use_ssl=False needs an endpoint that begins with http://"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_what_would_set_nothing_is_refused_on_aws_and_does_not_matter_elsewhere(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    of_table = {name: value for name, value in settings.items() if name != "api_version"}
    records = DynamoDBClient("results", **of_table)
    producer = Producer("jobs.fifo", ddb_client=records, **settings)
    Consumer("jobs.fifo", ddb_client=records, compute_result=lambda body, message_id: body, **settings)
    assert producer.retrieve_result_status(producer.post_non_blocking(1)) is ResultStatus.SUBMITTED

    monkeypatch.delenv("HAULAGE_URL")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with pytest.raises(haulage.ConfigError, match=re.escape(message)):
        new_producer(**settings)


def test_what_means_something_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAULAGE_URL")
    config = Config(region_name="eu-west-1")
    assert new_producer(config=config)._place.url == "sqs://jobs.fifo?table=results&region=eu-west-1"
    url = new_producer(config=config, region_name="eu-central-1")._place.url
    assert url == "sqs://jobs.fifo?table=results&region=eu-central-1"
    # What only one of queue and table is told holds for both.
    records = DynamoDBClient("results", config=config)
    assert Producer("jobs.fifo", ddb_client=records)._place.records == "dynamodb://results?region=eu-west-1"
    url = Producer("jobs.fifo", ddb_client=records, region_name="eu-north-1")._place.url
    assert url == "sqs://jobs.fifo?table=results&region=eu-north-1&table_region=eu-west-1"
    records = DynamoDBClient("results", region_name="eu-north-1")
    url = Producer("jobs.fifo", ddb_client=records, config=config)._place.url
    assert url == "sqs://jobs.fifo?table=results&region=eu-west-1&table_region=eu-north-1"
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9324")
    with pytest.raises(haulage.ConfigError, match="set AWS_ENDPOINT_URL_DYNAMODB or AWS_ENDPOINT_URL in"):
        new_producer(use_ssl=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    assert new_producer(use_ssl=False)._place.url == "sqs://jobs.fifo?table=results"
    # Its own goes before that of all.
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "https://sqs.example.com")
    with pytest.raises(haulage.ConfigError, match="set AWS_ENDPOINT_URL_SQS or AWS_ENDPOINT_URL in"):
        new_producer(use_ssl=False)


def test_queue_and_table_have_regions_and_endpoints_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAULAGE_URL")
    table = DynamoDBClient("results", region_name="local", endpoint_url="http://localhost:8000")
    settings: Any = {"region_name": "elsewhere", "endpoint_url": "http://localhost:9324"}
    place = Producer("jobs.fifo", ddb_client=table, **settings)._place
    assert place.url == (
        "sqs://jobs.fifo?table=results&region=elsewhere&endpoint=http%3A%2F%2Flocalhost%3A9324"
        "&table_region=local&table_endpoint=http%3A%2F%2Flocalhost%3A8000"
    )
    assert place.records == "dynamodb://results?region=local&endpoint=http%3A%2F%2Flocalhost%3A8000"
    # What only one of them says is of both, and what both say the same is said once.
    same = Producer("jobs.fifo", ddb_client=DynamoDBClient("results", region_name="elsewhere"), **settings)
    assert same._place.url == (
        "sqs://jobs.fifo?table=results&region=elsewhere&endpoint=http%3A%2F%2Flocalhost%3A9324"
    )
