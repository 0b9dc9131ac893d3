"""A pipeline without endpoints, whose tasks have all that tasks may have."""

import json

from checks import Aws, granted


def variables(aws: Aws, vpc: str) -> dict:
    """Variables of a pipeline whose tasks have all there is, in a cluster that is there already.
    (But a shell: the emulator knows no `enableExecuteCommand`.)"""
    bounds = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
    boundary = aws("iam").create_policy(PolicyName="bounds", PolicyDocument=bounds)["Policy"]["Arn"]
    files = {"file_system_arn": aws.arn("elasticfilesystem", "file-system/fs-0123456789abcdef0")}
    files["security_group_id"] = aws.make_group(vpc, "files")
    server = {"image": "public.ecr.aws/model/server:1", "wait_for": "HEALTHY", "health_check": {"command": ["CMD", "true"]}}
    return {
        "cluster_arn": aws("ecs").create_cluster(clusterName="shared")["cluster"]["clusterArn"],
        "sidecars": {"server": server},
        "container_secrets": {"HUB": aws.arn("secretsmanager", "secret:hub-AbCdEf")},
        "volumes": {"models": {"path": "/models", "read_only": True, "efs": files}},
        "container": {"user": "1000:1000", "drop": ["ALL"], "ulimits": {"nofile": {"soft": 1024, "hard": 65536}}},
        "container_definitions": {"worker": {"workingDirectory": "/app"}},
        "container_command": ["haulage", "worker", "--http", "http://localhost:8080"],
        "container_environment": {"MODE": "fast"},
        "egress_rules": {"database": {"cidr_blocks": ["10.0.0.0/16"], "from_port": 5432}},
        "security_group_ids": [aws.make_group(vpc, "database-clients")],
        "permissions_boundary": boundary,
        "iam_path": "/search/",
    }


def check(aws: Aws, full: dict, public_ip: bool) -> None:
    """What a pipeline without endpoints may reach, who says that its reports are kept, and
    that its tasks have what was asked for."""
    groups = aws("ec2").describe_security_groups(Filters=[{"Name": "group-name", "Values": ["full-worker"]}])
    worker = groups["SecurityGroups"][0]
    assert worker["IpPermissions"] == [], "something may come in"
    out = {(rule["FromPort"], rule["ToPort"]) for rule in worker["IpPermissionsEgress"]}
    assert out == {(443, 443), (5432, 5432), (2049, 2049)}, worker["IpPermissionsEgress"]
    policies = aws("logs").describe_resource_policies()["resourcePolicies"]
    assert "full-events" in [policy["policyName"] for policy in policies], policies
    ecs = aws("ecs")
    service = ecs.describe_services(cluster="shared", services=["full"])["services"][0]
    network = service["networkConfiguration"]["awsvpcConfiguration"]
    assert network["assignPublicIp"] == ("ENABLED" if public_ip else "DISABLED"), network
    assert set(full["security_group_ids"]) < set(network["securityGroups"]), network
    assert service["clusterArn"] == full["cluster_arn"], service
    task = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
    containers = {container["name"]: container for container in task["containerDefinitions"]}
    made = {name: containers["worker"].get(name) for name in (
        "command", "secrets", "user", "ulimits", "mountPoints", "dependsOn", "workingDirectory",
    )}
    assert made == {
        "command": ["haulage", "worker", "--http", "http://localhost:8080"],
        "secrets": [{"name": "HUB", "valueFrom": full["container_secrets"]["HUB"]}],
        "user": "1000:1000",
        "ulimits": [{"name": "nofile", "softLimit": 1024, "hardLimit": 65536}],
        "mountPoints": [{"sourceVolume": "models", "containerPath": "/models", "readOnly": True}],
        "dependsOn": [{"containerName": "server", "condition": "HEALTHY"}],
        "workingDirectory": "/app",
    }, made
    assert {"name": "MODE", "value": "fast"} in containers["worker"]["environment"]
    assert containers["worker"]["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}, containers["worker"]
    assert containers["server"]["healthCheck"]["command"] == ["CMD", "true"], containers["server"]
    (volume,) = task["volumes"]
    assert volume["efsVolumeConfiguration"]["fileSystemId"] == "fs-0123456789abcdef0", volume
    iam = aws("iam")
    for role in ("full-consumer", "full-execution"):
        found = iam.get_role(RoleName=role)["Role"]
        kept = (found["Path"], found["PermissionsBoundary"]["PermissionsBoundaryArn"])
        assert kept == (full["iam_path"], full["permissions_boundary"]), found
    to_start, to_work = (granted(aws.statements(f"full-{role}")) for role in ("execution", "consumer"))
    secret = full["container_secrets"]["HUB"]
    assert to_start[secret] == {"secretsmanager:GetSecretValue", "ssm:GetParameters"}, to_start
    assert to_work[full["volumes"]["models"]["efs"]["file_system_arn"]] == {"elasticfilesystem:ClientMount"}, to_work


def remove_cluster(aws: Aws, arn: str) -> None:
    """One that a destroy leaves alone, as it did not make it."""
    assert aws.active_clusters() == [arn.split("/")[1]], "it is there"
    aws("ecs").delete_cluster(cluster=arn)
