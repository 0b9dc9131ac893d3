"""Sends a message to the consumer, and shows the result: ``python send_message.py "some words"``."""

from __future__ import annotations

import argparse
import sys

import settings
from haulage import BaseError, DynamoDBClient, Producer


def main() -> None:
    parser = argparse.ArgumentParser(description="Sends a message to the consumer, and shows the result.")
    parser.add_argument("text", nargs="?", default="a message to be counted")
    parser.add_argument("--seconds", type=float, default=0, help="how long the work is to take")
    parser.add_argument("--no-wait", action="store_true", help="show the id alone")
    parser.add_argument("--status", metavar="ID", help="show how far that message is, and send none")
    parser.add_argument("--timeout", type=float, default=60, help="how long to wait for the result")
    arguments = parser.parse_args()

    producer = Producer(
        settings.QUEUE_NAME,
        ddb_client=DynamoDBClient(settings.TABLE_NAME, **settings.TABLE),
        timeout_seconds=arguments.timeout,
        **settings.QUEUE,
    )
    if arguments.status:
        print(producer.retrieve_result_status(arguments.status))
        return
    message_id = producer.post_non_blocking({"text": arguments.text, "seconds": arguments.seconds})
    print("id:", message_id, flush=True)
    if arguments.no_wait:
        return
    response = producer.retrieve_result(message_id)
    print("status:", response.status)
    if response.error is not None:
        sys.exit(f"error: {response.error}")
    print("result:", response.result)


if __name__ == "__main__":
    try:
        main()
    except BaseError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
