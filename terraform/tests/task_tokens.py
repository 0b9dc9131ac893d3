"""What modules/task_tokens tells Step Functions of the records of jobs.

Its state machine is run with the JSONata of Step Functions, on records.json: that
is written by the backend's own tests (crates/haulage-aws/tests/local/step_functions.rs).
"""

import json
import pathlib
import subprocess

HERE = pathlib.Path(__file__).parent.resolve()
DEFINITION = HERE.parent / "modules" / "task_tokens" / "definition.json"
TOKEN = "AQCEAAAAKgAAAAMAAAAAAAAAAQ=="


def check(work: pathlib.Path, npm: pathlib.Path) -> None:
    records = json.loads((HERE / "records.json").read_text())
    trials = {name: {"record": record} for name, record in records.items()}
    # With tokens that nobody waits for any more, and a service that is away.
    trials |= {
        f"{name}, {answer}": {"record": records[name], "refused": f"Sfn.{answer}"}
        for name in ("success", "error", "running")
        for answer in ("TaskTimedOutException", "TaskDoesNotExistException", "InvalidTokenException", "ThrottlingException")
    }
    error = records["error"]
    trials["a long error"] = {"record": error | {"error": {"S": "begins " + "é" * 40_000 + " ends"}}}
    trials["an end that nobody knows yet"] = {"record": error | {"error_kind": {"S": "k" * 300}}}
    trials["purged"] = {"record": records["success"] | {"status": {"S": "purged"}}}
    machine, file = work / "machine.json", work / "trials.json"
    machine.write_text(DEFINITION.read_text().replace("${partition}", "aws"))
    file.write_text(json.dumps(trials))
    ran = subprocess.run(
        ["node", HERE / "task_tokens.js", machine, file], capture_output=True, text=True,
        env={"NODE_PATH": str(npm / "node_modules"), "PATH": "/usr/local/bin:/usr/bin:/bin"},
    )
    assert ran.returncode == 0, ran.stderr
    results = json.loads(ran.stdout)

    for name, (verb, arguments) in told(records).items():
        resource = f"arn:aws:states:::aws-sdk:sfn:sendTask{verb}"
        expected = {"calls": [{"resource": resource, "TaskToken": TOKEN, **arguments}], "ends": "Succeed", "told": {}}
        assert results[name] == expected, f"{name}: {results[name]}"
    for name in ("no token", "waiting", "purged"):
        assert results[name] == {"calls": [], "ends": "Succeed", "told": {}}, f"{name}: {results[name]}"
    for name in ("success", "error", "running"):
        for answer in ("TaskTimedOutException", "TaskDoesNotExistException", "InvalidTokenException"):
            result = results[f"{name}, {answer}"]
            assert (len(result["calls"]), result["ends"]) == (1, "Succeed"), f"nobody waits: {result}"
        result = results[f"{name}, ThrottlingException"]
        assert (result["ends"], result["told"]) == ("Fail", "Sfn.ThrottlingException"), f"tried again: {result}"
    # As long as the service takes them ("SendTaskFailure"), and the end, which says what happened.
    (long,) = results["a long error"]["calls"]
    assert len(long["Cause"]) == 32_768 and long["Cause"].endswith("é ends"), long["Cause"][-10:]
    (unknown,) = results["an end that nobody knows yet"]["calls"]
    assert unknown["Error"] == "k" * 256, unknown


def told(records: dict) -> dict[str, tuple[str, dict]]:
    """What is told of a record that has a token."""
    output = lambda name, **rest: ("Success", {"Output": json.dumps(
        {"job_id": records[name]["message_id"]["S"], "status": "success", **rest}, separators=(",", ":"),
    )})
    failure = lambda error, cause: ("Failure", {"Error": error, "Cause": cause})
    whole = '{"n":9223372036854775807,"text":"a \\"quote\\", ü","null":null}'
    job_id = records["success"]["message_id"]["S"]
    return {
        # To the letter: whoever parses numbers may round them.
        "success": ("Success", {"Output": f'{{"job_id":"{job_id}","status":"success","result":{whole}}}'}),
        "falsy": output("falsy", result=None),
        "in the bucket": output("in the bucket", result_at=records["in the bucket"]["result_at"]["S"]),
        "compressed": output("compressed", result_at="record"),
        "error": failure("handler", "it broke: \"so\"\n"),
        "timeout": failure("timeout", "it ran for longer than 1 s"),
        "cancelled": failure("cancelled", f"job {records['cancelled']['message_id']['S']} was cancelled"),
        "not a job": failure("invalid_body", records["not a job"]["error"]["S"]),
        "running": ("Heartbeat", {}),
    }
