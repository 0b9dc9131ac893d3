"""Where the pipeline is, and one run of ``haulage e2e`` on it, which all tests look at."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

# How often the service is looked at, in seconds.
LOOK = 2.0
# The alarms of each pipeline that is deployed with alarms, by what follows its name in theirs.
ALARMS = ["dead-letters", "oldest-job", "retention", "no-progress", "task-failures"]
# These are made together: those of the scaling Lambda, and those of each named queue (oldest-job-QUEUE).
PAIRS = [("lambda-errors", "lambda-silent"), ("oldest-job", "retention")]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pipeline", "the pipeline, by one of the first three")
    group.addoption("--outputs", metavar="FILE", help="what `terraform output -json` has written")
    group.addoption("--pipeline", metavar="NAME", help="its name, by which SSM knows its queue and table")
    group.addoption("--url", help="its HAULAGE_URL; alarms and scaling are left out")
    group.addoption("--jobs", metavar="FILE", help="jobs of your handler, as `haulage e2e --jobs` takes them")
    group.addoption("--job-timeout", metavar="DURATION", default="15m", help="how long the jobs may take")
    group.addoption(
        "--scale-timeout",
        metavar="SECONDS",
        type=float,
        default=1200.0,
        help="how long the service may take to be without tasks, before the jobs and after them",
    )


def ask(what: str, call: Callable[[], Any]) -> Any:
    """An answer of AWS. What is denied or not there fails the test, in one sentence."""
    try:
        return call()
    except (BotoCoreError, ClientError) as error:
        why = error
    # Not where the error is handled, which would show where it came from as well.
    pytest.fail(f"cannot read {what}: {why}", pytrace=False)


def alarms_in_cloudwatch(**which: Any) -> set[str]:
    """Their names; by ``AlarmNames``, or by ``AlarmNamePrefix``."""

    def call() -> set[str]:
        # With many named queues, "no progress" is a composite one. CloudWatch leaves them out unless asked.
        kinds = ("MetricAlarm", "CompositeAlarm")
        paginator = boto3.client("cloudwatch").get_paginator("describe_alarms")
        pages = paginator.paginate(AlarmTypes=kinds, **which)
        return {alarm["AlarmName"] for page in pages for kind in kinds for alarm in page.get(f"{kind}s", [])}

    return ask("the alarms", call)


def expected_alarms(name: str, found: set[str]) -> set[str]:
    """What a pipeline has, seen from those that are there; nothing where it is deployed without."""
    ends = {alarm.removeprefix(f"{name}-") for alarm in found}
    # Others may belong to a pipeline whose name begins like this one's.
    if ends.isdisjoint(ALARMS):
        return set()
    # With three or more named queues, it is a composite alarm, of a name of its own.
    in_parts = {"no-progress": "no-progress-all"} if "no-progress-waiting" in ends else {}
    expected = {in_parts.get(end, end) for end in ALARMS}
    for first, second in PAIRS:
        for one, other in ((first, second), (second, first)):
            expected |= {end.replace(one, other, 1) for end in ends if end.startswith(one)}
    return {f"{name}-{end}" for end in expected}


@dataclass
class Pipeline:
    """Names of a pipeline. Where one is not known, ``unknown`` says why.

    Without a list of its alarms, its ``name`` finds them.
    """

    url: str
    unknown: str = ""
    cluster: str | None = None
    service: str | None = None
    alarms: list[str] | None = None
    name: str | None = None

    def service_or_skip(self) -> dict[str, Any]:
        if not self.cluster or not self.service:
            pytest.skip(f"no service is known: {self.unknown}")
        found = ask(
            f"the service {self.service}",
            lambda: boto3.client("ecs").describe_services(cluster=self.cluster, services=[self.service]),
        )
        if not found["services"]:
            pytest.fail(f"there is no service {self.service} in the cluster {self.cluster}", pytrace=False)
        return found["services"][0]

    def missing_alarms_or_skip(self) -> set[str]:
        """Those of its alarms that are not in CloudWatch."""
        if self.name is not None:
            found = alarms_in_cloudwatch(AlarmNamePrefix=f"{self.name}-")
            expected = expected_alarms(self.name, found)
        elif self.alarms is not None:
            # All alarms would be the answer where none is asked for.
            found = alarms_in_cloudwatch(AlarmNames=self.alarms) if self.alarms else set()
            expected = set(self.alarms)
        else:
            pytest.skip(f"no alarms are known: {self.unknown}")
        if not expected:
            pytest.skip("the pipeline is deployed without alarms (enable_alarms)")
        return expected - found


@pytest.fixture(scope="session")
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    option = request.config.getoption
    if outputs := option("outputs"):
        try:
            values = {name: output["value"] for name, output in json.loads(Path(outputs).read_text()).items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            pytest.exit(f"{outputs} is not what `terraform output -json` writes: {error}", returncode=2)
        if not (url := values.get("haulage_url")):
            pytest.exit(f"{outputs} has no output haulage_url; hand on that of the module", returncode=2)
        names = (values.get("cluster_name"), values.get("service_name"), values.get("alarm_names"))
        return Pipeline(url, f"{outputs} lacks cluster_name, service_name or alarm_names", *names)
    if name := option("pipeline"):
        parameters = ask("SSM", lambda: boto3.client("ssm"))

        def look_up(key: str) -> str:
            call = lambda: parameters.get_parameter(Name=f"/{name}/{key}")  # noqa: E731
            return ask(f"the parameter /{name}/{key}", call)["Parameter"]["Value"]

        query = urlencode({"table": look_up("table_name"), "region": parameters.meta.region_name})
        return Pipeline(f"sqs://{look_up('queue_name')}?{query}", "", name, name, name=name)
    if url := option("url"):
        return Pipeline(url, "--url names none; give --outputs or --pipeline in its place")
    pytest.exit("nothing says which pipeline; give --outputs, --pipeline or --url", returncode=2)


@dataclass
class Run:
    """What ``haulage e2e`` said, and how many tasks there were meanwhile."""

    code: int
    error: str
    checks: dict[str, dict[str, Any]]
    tasks_before: int | None = None
    most_tasks: int = 0
    not_from_zero: str = ""


def tasks_of(pipeline: Pipeline) -> int | None:
    """How many tasks run or are to run; None where that is not known."""
    try:
        service = pipeline.service_or_skip()
    except (pytest.skip.Exception, pytest.fail.Exception):
        return None
    return max(service["runningCount"], service["desiredCount"])


def without_tasks(pipeline: Pipeline, seconds: float) -> bool:
    """Waits until the service has none."""
    until = time.monotonic() + seconds
    while (tasks := tasks_of(pipeline)) and time.monotonic() < until:
        time.sleep(LOOK)
    return tasks == 0


def fewest_of_the_lambda(pipeline: Pipeline) -> int | None:
    """What the schedule of its Lambda, or of one for many services, tells that; None where none
    sets its desired count."""
    events = boto3.client("events")
    pages = events.get_paginator("list_rules").paginate()
    rules = ask("the rules", lambda: [rule["Name"] for page in pages for rule in page["Rules"]])
    for rule in (rule for rule in rules if rule.endswith("-autoscale")):
        targets = ask(f"what {rule} starts", lambda rule=rule: events.list_targets_by_rule(Rule=rule))[
            "Targets"
        ]
        for pair in (pair for target in targets for pair in json.loads(target["Input"])["pairs"]):
            if (pair["cluster"], pair["service"]) == (pipeline.cluster, pipeline.service):
                return pair["direct"]["min_tasks"] if pair["direct"] else None
    return None


def fewest_tasks(pipeline: Pipeline) -> int | None:
    """What scaling leaves; None where nothing scales the service."""
    if (fewest := fewest_of_the_lambda(pipeline)) is not None:
        return fewest
    service = f"service/{pipeline.cluster}/{pipeline.service}"
    targets = ask(
        f"how {service} scales",
        lambda: boto3.client("application-autoscaling").describe_scalable_targets(
            ServiceNamespace="ecs", ResourceIds=[service]
        ),
    )["ScalableTargets"]
    return targets[0]["MinCapacity"] if targets else None


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest, pipeline: Pipeline) -> Run:
    option = request.config.getoption
    if not option("jobs"):
        pytest.exit("nothing says which jobs; give --jobs, a file as `haulage e2e` takes it", returncode=2)
    run = Run(-1, "", {})
    if pipeline.cluster and pipeline.service:
        try:
            fewest = fewest_tasks(pipeline)
            if fewest is None:
                run.not_from_zero = "nothing scales the service"
            elif fewest > 0:
                run.not_from_zero = f"the service keeps {fewest} tasks or more"
            elif not without_tasks(pipeline, option("scale_timeout")):
                run.not_from_zero = "the service did not come to be without tasks before the jobs"
        except pytest.fail.Exception as denied:
            run.not_from_zero = str(denied)
    run.tasks_before = tasks_of(pipeline)
    command = ["haulage", "--url", pipeline.url, "--json", "e2e", "--jobs", option("jobs")]
    command += ["--timeout", option("job_timeout")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            run.most_tasks = max(run.most_tasks, tasks_of(pipeline) or 0)
            time.sleep(LOOK)
        said, error = process.communicate()
    run.code, run.error = process.returncode, error.strip()
    run.checks = {check["check"]: check for check in map(json.loads, said.splitlines())}
    return run
