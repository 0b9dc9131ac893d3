"""What is planned, with the schema of the current provider."""

import json

import completion_events
import costs


def pipeline(plan: dict, variables: dict) -> None:
    """What holds for each resource of a pipeline with these variables, as planned with the current
    provider. Here are the arguments that the emulator's provider is too old for."""
    resources = list(_resources(plan["planned_values"]["root_module"]))
    of = lambda kind: [resource["values"] for resource in resources if resource["type"] == kind]
    kinds = {resource["type"] for resource in resources}
    assert not kinds & {"aws_iam_user", "aws_iam_access_key", "aws_iam_user_policy"}, "keys that live long"
    assert not kinds & {"aws_nat_gateway", "aws_internet_gateway", "aws_eip"}, "a way out to the internet"
    for rule in [*of("aws_vpc_security_group_egress_rule"), *of("aws_vpc_security_group_ingress_rule")]:
        assert not rule.get("cidr_ipv4") and not rule.get("cidr_ipv6"), f"open to addresses: {rule}"
    for group in of("aws_security_group"):
        assert not group.get("ingress") and not group.get("egress"), "rules are resources of their own"
    roles = {role["name"]: (role.get("permissions_boundary"), role["path"]) for role in of("aws_iam_role")}
    kept = {variables["permissions_boundary"]}, {variables["iam_path"]}
    assert (set(bound for bound, _ in roles.values()), set(path for _, path in roles.values())) == kept, roles
    ends = ("autoscale", "consumer", "events", "execution", "task-tokens", "task-tokens-pipe")
    assert set(roles) == {f"haulage-{end}" for end in ends}, roles
    assert {policy["path"] for policy in of("aws_iam_policy")} == {variables["iam_path"]}, "policies are in the path"
    for queue in of("aws_sqs_queue"):
        assert queue["sqs_managed_sse_enabled"] is True, queue["name"]
        assert queue["fifo_queue"] == queue["name"].endswith(".fifo"), queue["name"]
    assert len(of("aws_sqs_queue_policy")) == 2, "each queue has its policy"
    jobs = next(queue for queue in of("aws_sqs_queue") if not queue["name"].endswith("-dlq.fifo"))
    assert (jobs["deduplication_scope"], jobs["fifo_throughput_limit"]) == ("messageGroup", "perMessageGroupId")
    assert "aws_sqs_queue_redrive_allow_policy" in kinds
    for table in of("aws_dynamodb_table"):
        assert table["deletion_protection_enabled"] and table["point_in_time_recovery"][0]["enabled"], table
    assert [s["capacity_provider_strategy"][0]["capacity_provider"] for s in of("aws_ecs_service")] == ["FARGATE"]
    assert [s["availability_zone_rebalancing"] for s in of("aws_ecs_service")] == ["DISABLED"]
    assert [t["runtime_platform"][0]["cpu_architecture"] for t in of("aws_ecs_task_definition")] == ["ARM64"]
    assert [f["architectures"] for f in of("aws_lambda_function")] == [["arm64"]]
    (repository,), (policy,) = of("aws_ecr_repository"), of("aws_ecr_lifecycle_policy")
    assert (repository["image_tag_mutability"], repository["force_delete"]) == ("IMMUTABLE", False), repository
    assert [r["selection"]["countNumber"] for r in json.loads(policy["policy"])["rules"]] == [14, 100], policy
    for group in of("aws_cloudwatch_log_group"):
        assert group["retention_in_days"] == 30, f"logs for ever: {group['name']}"
    for alarm in of("aws_cloudwatch_metric_alarm"):
        assert alarm["treat_missing_data"] in ("breaching", "notBreaching"), f"{alarm['alarm_name']} leaves it open"
        asked = [query for query in alarm.get("metric_query") or [] if query.get("metric")]
        assert len(asked) <= 10, f"{alarm['alarm_name']} has more metrics than CloudWatch takes: {len(asked)}"
    for name, count in costs.counts(of).items():
        assert count == getattr(costs, name), f"costs.py has another {name} than {count}"
    (pipe,) = [p for p in of("aws_pipes_pipe") if p["name"].endswith("-completion-events")]
    completion_events.check(pipe)
    # What is not said is not known before the apply, as the provider may say it.
    untagged = [
        change["address"] for change in plan["resource_changes"]
        if change["mode"] == "managed" and (
            change["change"]["after_unknown"].get("tags") is True
            or (change["change"]["after"].get("tags") or {"team": "search"}).get("team") != "search"
        )
    ]
    assert not untagged, f"without the tags: {untagged}"


def on_instances(plan: dict) -> None:
    """The same pipeline with GPUs, on a capacity provider of its own cluster."""
    resources = list(_resources(plan["planned_values"]["root_module"]))
    of = lambda kind: [resource["values"] for resource in resources if resource["type"] == kind]
    assert [t["requires_compatibilities"] for t in of("aws_ecs_task_definition")] == [["MANAGED_INSTANCES"]]
    assert [s["capacity_provider_strategy"][0]["capacity_provider"] for s in of("aws_ecs_service")] == ["gpu-demo"]
    assert [p["cluster"] for p in of("aws_ecs_capacity_provider")] == ["gpu-demo"]
    services = {e["service_name"].split(".", 3)[-1] for e in of("aws_vpc_endpoint") if "service_name" in e}
    assert services >= {"ecs", "ecs-agent", "ecs-telemetry"}, services


def on_ec2(plan: dict) -> None:
    """And on an Auto Scaling group of one's own, in a cluster of one's own."""
    resources = list(_resources(plan["planned_values"]["root_module"]))
    of = lambda kind: [resource["values"] for resource in resources if resource["type"] == kind]
    (task,) = of("aws_ecs_task_definition")
    assert task["requires_compatibilities"] == ["EC2"], task
    assert [cluster["name"] for cluster in of("aws_ecs_cluster")] == ["gpu-ec2-demo"], "one cluster"
    assert [g["protect_from_scale_in"] for g in of("aws_autoscaling_group")] == [True]
    (template,) = of("aws_launch_template")
    assert template["metadata_options"][0]["http_tokens"] == "required", template


def in_public(plan: dict) -> None:
    """Without endpoints: out by HTTPS, and nothing comes in."""
    resources = list(_resources(plan["planned_values"]["root_module"]))
    of = lambda kind: [resource["values"] for resource in resources if resource["type"] == kind]
    rules = [(r.get("cidr_ipv4"), r.get("cidr_ipv6"), r["from_port"]) for r in of("aws_vpc_security_group_egress_rule")]
    assert sorted(rules, key=str) == [("0.0.0.0/0", None, 443), (None, "::/0", 443)], rules
    assert not of("aws_vpc_security_group_ingress_rule"), "something comes in"
    assert [s["network_configuration"][0]["assign_public_ip"] for s in of("aws_ecs_service")] == [True]
    assert len(of("aws_cloudwatch_log_resource_policy")) == 1, "reports of failed tasks have their log"


def minimal(plan: dict) -> None:
    """What a newcomer applies: nothing runs, and nothing stands in the way of its removal."""
    resources = list(_resources(plan["planned_values"]["root_module"]))
    of = lambda kind: [resource["values"] for resource in resources if resource["type"] == kind]
    assert [s["desired_count"] for s in of("aws_ecs_service")] == [0]
    assert of("aws_appautoscaling_target") == [], "the Lambda sets the count itself"
    repositories = [(r["force_delete"], r["image_tag_mutability"]) for r in of("aws_ecr_repository")]
    assert repositories == [(True, "IMMUTABLE")], repositories
    (table,) = of("aws_dynamodb_table")
    assert not table["deletion_protection_enabled"] and not table["point_in_time_recovery"][0]["enabled"], table
    assert [b["force_destroy"] for b in of("aws_s3_bucket")] == [True]


def _resources(module: dict):
    for resource in module.get("resources", []):
        if resource["mode"] == "managed":
            # There are none where all of them are known after the apply.
            yield {"values": {}, **resource}
    for child in module.get("child_modules", []):
        yield from _resources(child)
