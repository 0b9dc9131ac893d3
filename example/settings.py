"""Where the queue and the table are: from the environment, and from the file that DOTENV_FILE names."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode


def _read_file() -> None:
    """Lines of NAME=value. What the environment says already goes before them."""
    name = os.environ.get("DOTENV_FILE")
    if not name:
        return
    try:
        lines = Path(name).read_text().splitlines()
    except OSError as error:
        sys.exit(f"DOTENV_FILE={name} cannot be read: {error.strerror}; there are local.env and embedded.env")
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals:
            sys.exit(f"{name}, line {number}: {line!r} is not a setting; write NAME=value")
        os.environ.setdefault(key.strip(), value.strip())


def _required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        sys.exit(f"{name} is not set; name a file that sets it, as in DOTENV_FILE=local.env")
    return value


def _seconds(name: str, default: str) -> float:
    value = os.environ.get(name) or default
    try:
        return float(value)
    except ValueError:
        sys.exit(f"{name} is {value!r}; give seconds, such as {default}")


def _of(what: str) -> dict[str, Any]:
    """The region and the endpoint of the queue or the table, as boto3 calls them."""
    settings = {
        "region_name": os.environ.get(f"{what}_REGION"),
        "endpoint_url": os.environ.get(f"{what}_ENDPOINT_URL"),
    }
    return {name: value for name, value in settings.items() if value}


_read_file()
QUEUE_NAME, TABLE_NAME = _required("QUEUE_NAME"), _required("TABLE_NAME")
QUEUE, TABLE = _of("QUEUE"), _of("TABLE")
# Off where no ECS agent is: elsewhere, no job is run without its protection.
SCALEIN_PROTECTION = os.environ.get("SCALEIN_PROTECTION", "on") == "on"
# How long jobs may finish once the consumer stops, in seconds; then they are given back.
SHUTDOWN_GRACE_PERIOD = _seconds("SHUTDOWN_GRACE_PERIOD", "30")


def url() -> str:
    """All of it as one URL, for the command line and ``haulage.connect``."""
    elsewhere = os.environ.get("HAULAGE_URL")
    if elsewhere:
        return elsewhere.format(queue=QUEUE_NAME, table=TABLE_NAME)
    parameters = {
        "table": TABLE_NAME,
        "region": QUEUE.get("region_name"),
        "endpoint": QUEUE.get("endpoint_url"),
        "table_region": TABLE.get("region_name"),
        "table_endpoint": TABLE.get("endpoint_url"),
    }
    query = urlencode({name: value for name, value in parameters.items() if value})
    return f"sqs://{QUEUE_NAME}?{query}"
