"""What a pipeline costs while it is idle, by the month: `make costs` prints the
table of docs/deploy.md, which the ladder holds against it.
"""

HOURS = 730
MINUTES = 60 * HOURS

# List prices in US dollars, for us-east-1 (N. Virginia), without free tiers and
# volume discounts, as of June 2026, from the pricing page that is named. They
# are assumptions: no check looks them up.
ENDPOINT_HOUR = 0.01  # "AWS PrivateLink pricing": an interface endpoint, in each availability zone
VCPU_HOUR, GB_HOUR = 0.04048, 0.004445  # "AWS Fargate pricing": Linux on x86, on demand
METRIC = 0.30  # "Amazon CloudWatch pricing": a custom metric, a month
ALARM, FAST_ALARM = 0.10, 0.30  # the same: for each metric of an alarm; of high resolution
COMPOSITE_ALARM = 0.50  # the same: one that is made of others
METRIC_READ = 0.01 / 1000  # the same: a metric of GetMetricData
METRICS_PUT = 0.01 / 1000  # the same: a call of PutMetricData
SQS_REQUEST = 0.50 / 1e6  # "Amazon SQS pricing": a FIFO queue
LAMBDA_GB_SECOND, LAMBDA_RUN = 0.0000133334, 0.20 / 1e6  # "AWS Lambda pricing": arm64
NAT_HOUR = 0.045  # "Amazon VPC pricing": a NAT gateway
ADDRESS_HOUR = 0.005  # the same: a public IPv4 address
KEY, SECRET = 1.00, 0.40  # "AWS Key Management Service pricing", "AWS Secrets Manager pricing": a month
FILES_GB, BACKUP_GB = 0.30, 0.20  # "Amazon EFS pricing": standard; "Amazon DynamoDB pricing": point-in-time recovery
DASHBOARD = 3.00  # "Amazon CloudWatch pricing", beyond the third
PIPE = 0.40 / 1e6  # "Amazon EventBridge pricing": what a pipe passes on, in parts of 64 KB
EXPRESS, EXPRESS_GB_SECOND = 1.00 / 1e6, 0.00001667  # "AWS Step Functions pricing": an express workflow
EXPRESS_GB, EXPRESS_SECONDS = 64 / 1024, 0.1  # the least that is counted, of both
TRANSITION = 0.025 / 1000  # the same: of a standard workflow

# What a pipeline has by default.
ENDPOINTS = 5
INSTANCE_ENDPOINTS = 3  # ecs, ecs_agent and ecs_telemetry
SCALING_METRICS, TASK_METRICS, DASHBOARD_METRICS = 1, 6, 2  # docs/scaling.md and docs/metrics.md list them
METRICS_READ = 3  # each minute, as long as no service is scaled in
ALARM_METRICS, FAST_ALARMS = 10, 0  # those for people
SAMPLES, LAMBDA_GB = 6, 0.125
NAMED_QUEUE_METRICS = 6  # more of those, for each named queue
# And with scaler = "alarms": more metrics, the alarms on them and, as an
# assumption, two that Application Auto Scaling makes for its target tracking.
ALARMS_SCALING_METRICS, ALARMS_ALARM_METRICS, ALARMS_FAST_ALARMS, ALARMS_SAMPLES = 4, 11 + 2, 1, 4


def seconds_of_lambda(samples: int) -> float:
    """How long a run of the Lambda is: samples are spread over the minute, the
    first one at once, and the last one takes a second (an assumption)."""
    return 60 * (samples - 1) / samples + 1


def lambda_costs(samples: int) -> tuple[float, float, float]:
    """Its time, its calls at each sample, and what it reads once."""
    time = MINUTES * (seconds_of_lambda(samples) * LAMBDA_GB * LAMBDA_GB_SECOND + LAMBDA_RUN)
    calls = MINUTES * samples * (METRICS_PUT + SQS_REQUEST)
    return time, calls, MINUTES * METRICS_READ * METRIC_READ


def counts(of) -> dict[str, int]:
    """Of a planned pipeline, where `of` has the resources of a type: what the
    numbers above say of it."""
    alarms, policies = of("aws_cloudwatch_metric_alarm"), of("aws_appautoscaling_policy")
    fast = [alarm for alarm in alarms if (alarm.get("period") or 60) < 60]
    metrics = sum(sum(bool(query.get("metric")) for query in alarm.get("metric_query", [])) or 1 for alarm in alarms)
    tracking = [policy for policy in policies if policy["policy_type"] == "TargetTrackingScaling"]
    return {"ALARM_METRICS": metrics - len(fast) + 2 * len(tracking), "FAST_ALARMS": len(fast)}


def table() -> list[str]:
    task = VCPU_HOUR + 4 * GB_HOUR
    time, calls, reads = lambda_costs(SAMPLES)
    alarms = ALARM_METRICS * ALARM
    always = [
        (
            f"{ENDPOINTS} interface endpoints, in each availability zone, shared by all pipelines of the VPC: "
            f"{ENDPOINTS} × {HOURS} × {ENDPOINT_HOUR}", ENDPOINTS * HOURS * ENDPOINT_HOUR,
        ),
        (f"autoscaling: {SCALING_METRICS} metric at {METRIC:.2f}", SCALING_METRICS * METRIC),
        (
            f"autoscaling: the Lambda, 128 MB on arm64, for about {seconds_of_lambda(SAMPLES):.0f} s of each minute: "
            f"{MINUTES:,} × ({seconds_of_lambda(SAMPLES):.0f} × {LAMBDA_GB} × {LAMBDA_GB_SECOND:.10f} + {LAMBDA_RUN:.7f})", time,
        ),
        (
            f"autoscaling: each of its {MINUTES * SAMPLES:,} samples, a call of CloudWatch at {METRICS_PUT * 1e3:.2f} a "
            f"thousand and one of SQS at {SQS_REQUEST * 1e6:.2f} a million", calls,
        ),
        (f"autoscaling: the {METRICS_READ} metrics that it reads each minute, at {METRIC_READ * 1e3:.2f} a thousand", reads),
        (f"alarms: {ALARM_METRICS} metrics at {ALARM:.2f}", alarms),
    ]
    working = [
        (f"and a task of one vCPU and 4 GB, with a minimum capacity of 1: {HOURS} × {task:.5f}", HOURS * task),
        (
            f"and what tasks measure: {TASK_METRICS} metrics at {METRIC:.2f}, for the hours in which a task runs "
            "([metrics.md](metrics.md#metrics-in-cloudwatch))", TASK_METRICS * METRIC,
        ),
    ]
    together = [("**together**, in one zone, with a minimum capacity of 0", sum(dollars for _, dollars in always))]
    rows = [f"| {what} | {dollars:.2f} |" for what, dollars in always + together + working]
    return ["| idle, by the month | dollars |", "| --- | --- |", *rows]


def choices() -> list[str]:
    """What each choice costs while nothing runs."""
    zone = HOURS * ENDPOINT_HOUR
    lines = [
        ("an endpoint more, such as `secretsmanager`, in each zone", zone),
        ("a NAT gateway in place of endpoints, in each zone that has one; 0.045 a GB besides", HOURS * NAT_HOUR),
        ("`assign_public_ip`: each task, while it runs all month", HOURS * ADDRESS_HOUR),
        ("`kms_key_arn`: a key", KEY),
        ("`container_secrets`: each secret of Secrets Manager", SECRET),
        ("`volumes` of EFS: each GB", FILES_GB),
        ("`dynamodb_point_in_time_recovery_enabled`: each GB of the table", BACKUP_GB),
        (
            f"`queues`: each named queue, for {NAMED_QUEUE_METRICS} metrics of alarms at {ALARM:.2f}, and the requests for its counts",
            NAMED_QUEUE_METRICS * ALARM + MINUTES * SAMPLES * SQS_REQUEST,
        ),
        ("and with three or more, a composite alarm, once", COMPOSITE_ALARM),
        ("`more_services`: each, for its scaling", on_a_shared_lambda()),
        (f"`enable_dashboard`: {DASHBOARD_METRICS} metrics at {METRIC:.2f}", DASHBOARD_METRICS * METRIC),
        ("and each dashboard beyond the third of the account", DASHBOARD),
        ("`completion_events`, `step_functions`, `queue_senders`, `sidecars`, `enable_execute_command`, an existing cluster", 0.0),
    ]
    rows = [f"| {what} | {dollars:.2f} |" for what, dollars in lines]
    return ["| a choice, idle, by the month | dollars |", "| --- | --- |", *rows]


def with_alarms() -> float:
    """How much more it is where alarms scale."""
    metrics = (ALARMS_SCALING_METRICS - SCALING_METRICS) * METRIC
    alarms = (ALARMS_ALARM_METRICS - ALARM_METRICS) * ALARM + ALARMS_FAST_ALARMS * FAST_ALARM
    return metrics + alarms + sum(lambda_costs(ALARMS_SAMPLES)) - sum(lambda_costs(SAMPLES))


def on_a_shared_lambda() -> float:
    """What scaling a further pipeline costs on a Lambda that is there: its metrics,
    its requests to SQS, and what is read. Calls of CloudWatch are for all at once."""
    return SCALING_METRICS * METRIC + MINUTES * (SAMPLES * SQS_REQUEST + METRICS_READ * METRIC_READ)


def answer() -> float:
    """What it costs to tell a state of Step Functions of a job once."""
    return PIPE + EXPRESS + EXPRESS_GB * EXPRESS_SECONDS * EXPRESS_GB_SECOND


def sentences() -> list[str]:
    """What else docs/deploy.md says."""
    zone = HOURS * ENDPOINT_HOUR
    own = SCALING_METRICS * METRIC + sum(lambda_costs(SAMPLES))
    return [
        f"A pipeline on [a Lambda that is there](#one-lambda-for-many-services) pays {on_a_shared_lambda():.2f} dollars for scaling rather than {own:.2f}",
        f"With `scaler = \"alarms\"`, which has {ALARMS_SAMPLES} samples, it is {with_alarms():.2f} dollars more",
        f"`lambda_samples_per_minute = 2`, the fewest, brings the three lines of the Lambda down to {sum(lambda_costs(2)):.2f} dollars",
        f"Leaving it out saves {zone:.2f} dollars a month in each zone",
        f"they cost {INSTANCE_ENDPOINTS * zone:.2f} dollars a month in each zone",
        f"{ENDPOINTS * zone:.2f} of them for the endpoints",
        f"A million ends are {1e6 * answer():.2f} dollars, and the heartbeats of a job that runs for an hour, one each 10 s, {360 * answer():.5f} dollars",
        f"The state itself is {TRANSITION:.6f} dollars for each of its transitions",
    ]


if __name__ == "__main__":
    print("\n".join([*table(), "", *choices(), "", *(f"{sentence}." for sentence in sentences())]))
