"""What schemathesis cannot know of the server from its document."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData

# A wait that nothing ends takes as long as it says, and most jobs of this test are left as they are.
SHORT = "0.05"
# Rules that no schema can express, by what the server says to whoever breaks them.
RULES = re.compile(
    r"is longer than 366 days$"
    r"|^start_within is not longer than delay"
    r"|^(timeout|start_within) is 0;"
    r"|^the header Idempotency-Key and the body name different keys$"
    r"|^the result has \d+ bytes$"
    r"|^webhook (is|has|does not name)"
    # With a secret, it would look up and call whatever is made up.
    r"|^webhook: webhooks are not enabled on this server"
)
LINES = "application/jsonl"

numbers = itertools.count()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    if case.meta is not None and case.meta.generation.mode.is_negative:
        return
    if case.query and "wait" in case.query:
        case.query["wait"] = SHORT
    # A key that was used before finds the job of then, which may be deleted by now.
    number = next(numbers)
    if case.headers and (key := case.headers.get("Idempotency-Key")):
        case.headers["Idempotency-Key"] = fresh(key, number)
    if isinstance(case.body, dict) and isinstance(key := case.body.get("idempotency_key"), str):
        case.body["idempotency_key"] = fresh(key, number)


def fresh(key: str, number: int) -> str:
    return f"{key[:1000]}{number}"


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    if isinstance(failure, RejectedPositiveData) and response.status_code in (416, 422):
        return RULES.search(json.loads(response.content)["detail"]) is None
    # Each line has its answer, and a wrong one stops no other.
    return not (isinstance(failure, AcceptedNegativeData) and case.media_type == LINES)


@schemathesis.serializer(LINES)
def lines(context: Any, value: Any) -> dict[str, Any]:
    """Whatever is made up for a body of lines, as it is where it is text."""
    return {"data": (value if isinstance(value, str) else json.dumps(value)).encode(errors="replace")}
