"""Which changes of records modules/completion_events tells of, and with what words.

The patterns and the template of the pipe are tried as they are planned, on records.json:
that is written by the backend's own tests (crates/haulage-aws/tests/local/step_functions.rs).
"""

import json
import pathlib
import re

from moto.events.models import EventPattern

HERE = pathlib.Path(__file__).parent.resolve()
# The moment of an end, which records.json leaves out as it is never the same.
FINISHED = "1789000000000000"


def check(pipe: dict) -> None:
    """`pipe` is the pipe as planned."""
    (source,), (target,) = pipe["source_parameters"], pipe["target_parameters"]
    patterns = [json.loads(filter["pattern"]) for filter in source["filter_criteria"][0]["filter"]]
    told = lambda change: any(EventPattern(None, pattern).matches_event(change) for pattern in patterns)
    records = json.loads((HERE / "records.json").read_text())
    waiting, running, over = records["waiting"], records["running"], {
        name: record | {"finished_at": {"N": FINISHED}}
        for name, record in records.items() if name not in ("waiting", "running")
    }
    for name, record in over.items():
        for before in (waiting, running):
            assert told(_change(before, record)), f"not told: {before['status']} to {name}"
        # A message that is no job, and whoever cancels a job that has no record yet.
        assert told(_change(None, record)), f"not told: a record that begins as {name}"
        # Redriven, and purged.
        for after in (waiting, None):
            assert not told(_change(record, after)), f"told: {name}, which goes on or goes"
        for other in over:
            assert not told(_change(record, over[other])), f"told: {name}, which is written once more, as {other}"
    for before, after in ((None, waiting), (waiting, running), (running, waiting), (running, running), (running, None)):
        assert not told(_change(before, after)), f"told: {before} to {after}"
    # What else is in the table: a body, the note of a cancellation, and what has a status and is no job.
    for other in ({"body": {"S": "1"}}, {"cancelled_jobs": {"L": []}}, {"status": {"S": "success"}}):
        other = {"message_id": {"S": "other"}, **other}
        for before in (None, {"message_id": {"S": "other"}, "status": {"S": "submitted"}}):
            assert not told(_change(before, other)), f"told: {other}"

    template = target["input_template"]
    for name, record in over.items():
        detail = json.loads(_filled(template, _change(running, record)))
        value = lambda attribute: record.get(attribute, {"S": ""})["S"]
        assert detail == {
            "job_id": record["message_id"]["S"], "status": value("status"), "queue": "jobs.fifo",
            "request_id": value("request_id"), "error_kind": value("error_kind"), "finished_at_us": int(FINISHED),
        }, f"{name}: {detail}"
        assert (detail["error_kind"] == "") == (detail["status"] == "success"), f"{name}: {detail}"


def _change(before: dict | None, after: dict | None) -> dict:
    """As a stream has it ("DynamoDB Streams record", NEW_AND_OLD_IMAGES)."""
    kind = "INSERT" if before is None else "REMOVE" if after is None else "MODIFY"
    images = {name: image for name, image in (("OldImage", before), ("NewImage", after)) if image is not None}
    keys = {"message_id": (after or before)["message_id"]}
    change = {"Keys": keys, "SequenceNumber": "1", "StreamViewType": "NEW_AND_OLD_IMAGES", **images}
    return {"eventID": "1", "eventName": kind, "eventSource": "aws:dynamodb", "dynamodb": change}


def _filled(template: str, change: dict) -> str:
    """As pipes fill it in ("Amazon EventBridge Pipes input transformation"): with what is at
    each path, without quotes of its own, and with nothing where there is nothing."""
    def value(path: re.Match) -> str:
        at = change
        for key in path[1].split("."):
            at = at.get(key, {}) if isinstance(at, dict) else {}
        return json.dumps(at)[1:-1] if isinstance(at, str) else ""

    return re.sub(r"<\$\.([\w.]+)>", value, template)
