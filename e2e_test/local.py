"""Runs the tests of a deployed pipeline here: ``make e2e-local``.

The stack is applied to an emulator of AWS, and the example's consumer runs its jobs. What
starts and stops tasks on AWS, the scaling Lambda and ECS, is a few lines here: they set the
service's count by what is in the queue, and run a consumer for as long as it is not zero.

After that, its alarms are looked up by its name: all of them, all but some, and none.

``local.py PYTHON``: an interpreter with what the tests and the example need.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).parent.resolve()
EXAMPLE = HERE.parent / "example"
sys.path.insert(0, str(HERE.parent / "terraform" / "tests"))

import ladder  # noqa: E402

# How often the queue is looked at, and for how long it has to be empty for the last task to go, in seconds.
LOOK, IDLE = 0.5, 5
# How long a consumer that is told to stop may take, in seconds.
STOP = 60


class Service:
    """Stands in for the scaling Lambda and for ECS."""

    def __init__(
        self, aws: ladder.checks.Aws, outputs: dict, consumer: list[str], environment: dict[str, str]
    ):
        self._ecs, self._sqs, self._outputs = aws("ecs"), aws("sqs"), outputs
        self._command, self._environment = consumer, environment
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _jobs(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        queue = self._outputs["queue_url"]
        answer = self._sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    def _set(self, tasks: int) -> None:
        outputs = self._outputs
        self._ecs.update_service(
            cluster=outputs["cluster_name"], service=outputs["service_name"], desiredCount=tasks
        )

    def _run(self) -> None:
        task, idle = None, 0.0
        try:
            while not self._over.wait(LOOK):
                idle = 0.0 if self._jobs() else idle + LOOK
                if task is None and idle == 0:
                    self._set(1)
                    task = subprocess.Popen(self._command, cwd=EXAMPLE, env=self._environment)
                elif task is not None and idle >= IDLE:
                    task = _stop(task)
                    self._set(0)
        finally:
            if task is not None:
                _stop(task)


def _stop(task: subprocess.Popen[bytes]) -> None:
    task.terminate()
    try:
        task.wait(STOP)
    except subprocess.TimeoutExpired:
        task.kill()
        task.wait()


def environment(outputs: dict, interpreter: Path) -> dict[str, str]:
    """What a task has from its task definition, and the address of the emulator."""
    return {
        **os.environ,
        "PATH": f"{interpreter.parent}:{os.environ['PATH']}",
        "HAULAGE_URL": outputs["haulage_url"],
        "QUEUE_NAME": outputs["queue_name"],
        "TABLE_NAME": outputs["table_name"],
        "AWS_ENDPOINT_URL": ladder.ENDPOINT,
        "AWS_REGION": ladder.REGION,
        "AWS_DEFAULT_REGION": ladder.REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        # There is no ECS agent.
        "SCALEIN_PROTECTION": "off",
    }


def alarms_by_name(
    aws: ladder.checks.Aws, name: str, alarms: list[str], test: list[str], settings: dict[str, str]
) -> None:
    """That ``--pipeline`` tells which alarms are there; the pipeline has none afterwards."""

    def says(code: int, words: str, *options: str) -> None:
        command = [*test, "-k", "test_alarms_exist", *options]
        done = subprocess.run(command, env=settings, cwd=HERE, capture_output=True, text=True)
        if done.returncode != code or words not in done.stdout:
            raise ladder.Failed(f"not {words!r} with code {code}, but {done.returncode}:\n{done.stdout}")

    def make(alarm: str) -> None:
        aws("cloudwatch").put_metric_alarm(
            AlarmName=alarm,
            Namespace="AWS/SQS",
            MetricName="ApproximateNumberOfMessagesVisible",
            Statistic="Maximum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=0,
            ComparisonOperator="GreaterThanThreshold",
        )

    # Of another pipeline, whose name begins with this one's.
    make(f"{name}-2-dead-letters")
    with ladder.step(f"--pipeline {name}: its alarms are there"):
        says(0, "1 passed", "--pipeline", name)
    with ladder.step(f"--pipeline {name}: alarms that are missing are named"):
        # One of the two that a named queue has.
        make(f"{name}-oldest-job-bulk")
        # All that can be known from these: an alarm that is new in the module has to be known, too.
        left = {f"{name}-{end}" for end in ("dead-letters", "oldest-job", "lambda-errors")}
        gone = [alarm for alarm in alarms if alarm not in left]
        aws("cloudwatch").delete_alarms(AlarmNames=gone)
        missing = ", ".join(sorted([*gone, f"{name}-retention-bulk"]))
        says(1, f"alarms that are not there: {missing}\n", "--pipeline", name)
    with ladder.step(f"--pipeline {name}: without alarms, their test is skipped"):
        aws("cloudwatch").delete_alarms(AlarmNames=alarms)
        says(0, "1 skipped", "--pipeline", name)
    with ladder.step("a pipeline or a file that is not there is told in a sentence"):
        says(1, "__\ncannot read the parameter /none/table_name: ", "--pipeline", "none")
        says(2, "! _pytest.outcomes.Exit: none.json is not what `terraform output", "--outputs", "none.json")


def main(interpreter: Path) -> int:
    work = ladder.prepared()
    configuration = ladder.downleveled(work)
    with ladder.emulator(work):
        aws = ladder.checks.Aws(ladder.ENDPOINT, ladder.REGION)
        vpc = aws.make_vpc()
        with ladder.step("emulator: apply the endpoints stack"):
            endpoints = ladder.Stack(configuration / "endpoints", "endpoints", work, vpc)
            shared = endpoints.apply()
        variables = {
            "name": "staging",
            "vpc_id": vpc["vpc_id"],
            "subnet_ids": shared["subnet_ids"],
            "sqs_vpc_endpoint_id": shared["vpc_endpoints"]["sqs"],
            "lambda_package": {"path": str(ladder.empty_package(work))},
            "container_tag": "v1",
            "desired_count": 0,
            "service_autoscaling_min_capacity": 0,
        }
        pipeline = ladder.Stack(configuration / "inference_pipeline", "staging", work, variables)
        with ladder.step("emulator: apply the pipeline staging"):
            outputs = pipeline.apply()
        # The bucket refuses whoever comes without TLS, which the emulator does not speak.
        aws("s3").delete_bucket_policy(Bucket=outputs["bucket_name"])
        # As `terraform output -json` has it. Buckets have no host names of their own here.
        outputs["haulage_url"] += f"&endpoint={ladder.ENDPOINT}"
        file = work / "outputs.json"
        file.write_text(json.dumps({name: {"value": value} for name, value in outputs.items()}))
        settings = environment(outputs, interpreter)
        consumer = [str(interpreter), "-m", "uvicorn", "app:app", "--port", "0", "--log-level", "warning"]
        test = [str(interpreter), "-m", "pytest", "-rA", "--tb=short", "-p", "no:cacheprovider"]
        test += [str(HERE / "test.py")]
        tests = [*test, "--outputs", str(file), "--jobs", str(EXAMPLE / "e2e.json"), "--job-timeout", "5m"]
        tests += ["--scale-timeout", "120", "--junitxml", str(work / "e2e.xml")]
        with Service(aws, outputs, consumer, settings):
            code = subprocess.run(tests, env=settings, cwd=HERE).returncode
        print(f"the same for programs: {work / 'e2e.xml'}")
        if code == 0:
            alarms_by_name(aws, "staging", outputs["alarm_names"], test, settings)
        return code


if __name__ == "__main__":
    # As Ctrl-C: what it has started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main(Path(sys.argv[1]).absolute()))
    except KeyboardInterrupt:
        sys.exit(130)
