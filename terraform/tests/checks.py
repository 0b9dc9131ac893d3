"""What has to be there after an apply, as the SDK sees it."""

import json

import boto3
import costs

ACCOUNT = "123456789012"

# What all that touch jobs may do; docs/aws.md lists the same.
FIND = {"sqs:GetQueueAttributes", "sqs:GetQueueUrl"}
SEND = FIND | {"sqs:SendMessage"}
RECEIVE = {"sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"}
READ = {"dynamodb:BatchGetItem", "dynamodb:GetItem"}
RECORDS = READ | {"dynamodb:PartiQLInsert", "dynamodb:PutItem", "dynamodb:UpdateItem"}
KEY_READS = {"kms:Decrypt", "kms:DescribeKey"}
KEY_WRITES = KEY_READS | {"kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"}
# By which a program outside sends jobs to prod.
RULE = f"arn:aws:events:eu-central-1:{ACCOUNT}:rule/nightly"
OBJECTS = {"s3:DeleteObject", "s3:GetObject", "s3:PutObject"}
# What operators do besides, and what `haulage doctor` looks at.
LOOK_AFTER = {"dynamodb:DeleteItem", "dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive", "dynamodb:Scan"}
# These know no resource (Service Authorization Reference).
WITHOUT_RESOURCE = {"ecr:GetAuthorizationToken"}


class Aws:
    def __init__(self, endpoint: str, region: str):
        self.region = region
        self._session = boto3.Session("test", "test", region_name=region)
        self._endpoint = endpoint

    def __call__(self, service: str):
        return self._session.client(service, endpoint_url=self._endpoint)

    def arn(self, service: str, rest: str) -> str:
        return f"arn:aws:{service}:{self.region}:{ACCOUNT}:{rest}"

    def make_vpc(self) -> dict:
        ec2 = self("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        cidrs = ["10.0.1.0/24", "10.0.2.0/24"]
        subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=cidr)["Subnet"]["SubnetId"] for cidr in cidrs]
        return {"vpc_id": vpc, "subnet_ids": subnets}

    def make_group(self, vpc: str, name: str) -> str:
        return self("ec2").create_security_group(VpcId=vpc, GroupName=name, Description=name)["GroupId"]

    def make_key(self) -> str:
        return self("kms").create_key(Description="of one's own")["KeyMetadata"]["Arn"]

    def key(self) -> str:
        """The one that `make_key` made."""
        arns = [key["KeyArn"] for key in self("kms").list_keys()["Keys"]]
        described = [self("kms").describe_key(KeyId=arn)["KeyMetadata"] for arn in arns]
        return next(key["Arn"] for key in described if key["Description"] == "of one's own")

    def statements(self, role: str) -> list[dict]:
        """All statements of a role's own policies, with lists throughout."""
        iam = self("iam")
        assert not iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"], f"{role} has more policies"
        found = []
        for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
            found += [_lists(statement) for statement in document["Statement"]]
        return found

    def active_clusters(self) -> list[str]:
        # ECS goes on to list deleted ones for a while.
        arns = self("ecs").list_clusters()["clusterArns"]
        found = self("ecs").describe_clusters(clusters=arns)["clusters"] if arns else []
        return [cluster["clusterName"] for cluster in found if cluster["status"] == "ACTIVE"]

    def assert_repository_alone(self, name: str, outputs: dict) -> None:
        """There is where to push the image, and nothing that would pull it."""
        repositories = self("ecr").describe_repositories()["repositories"]
        assert [repository["repositoryName"] for repository in repositories] == [name], repositories
        assert outputs["ecr_repository_url"] == repositories[0]["repositoryUri"], outputs
        assert not self.active_clusters(), "a cluster before there is an image"

    def assert_nothing_left(self) -> None:
        left = {
            "queues": self("sqs").list_queues().get("QueueUrls", []),
            "tables": self("dynamodb").list_tables()["TableNames"],
            "clusters": self.active_clusters(),
            "functions": self("lambda").list_functions()["Functions"],
            "alarms": self("cloudwatch").describe_alarms()["MetricAlarms"],
            "repositories": self("ecr").describe_repositories()["repositories"],
            "buckets": self("s3").list_buckets()["Buckets"],
            "roles": [role["RoleName"] for role in self("iam").list_roles()["Roles"]],
            "endpoints": [e for e in self("ec2").describe_vpc_endpoints()["VpcEndpoints"] if e["State"] != "deleted"],
            "rules": self("events").list_rules()["Rules"],
            "parameters": self("ssm").describe_parameters()["Parameters"],
            "log groups": self("logs").describe_log_groups()["logGroups"],
        }
        assert not any(left.values()), f"after the destroy there are {left}"


def _lists(statement: dict) -> dict:
    as_list = lambda value: value if isinstance(value, list) else [value]
    return {**statement, "Action": as_list(statement["Action"]), "Resource": as_list(statement["Resource"])}


def all_checks():
    """Each function below whose name begins with check_, and its name in words."""
    for name, value in list(globals().items()):
        if name.startswith("check_"):
            yield name.removeprefix("check_").replace("_", " "), value


def complete(aws: Aws) -> None:
    """What examples/complete has beyond the stacks that it is made of."""
    ecr, ecs = aws("ecr"), aws("ecs")
    (repository,) = ecr.describe_repositories(repositoryNames=["haulage-model"])["repositories"]
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}, repository
    policy = json.loads(ecr.get_lifecycle_policy(repositoryName="haulage-model")["lifecyclePolicyText"])
    kept = {rule["selection"]["tagStatus"]: rule["selection"]["countNumber"] for rule in policy["rules"]}
    assert kept == {"untagged": 14, "tagged": 30}, kept
    for arn in ecs.list_task_definitions()["taskDefinitionArns"]:
        definition = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
        check = definition["containerDefinitions"][0].get("healthCheck")
        assert check and check["command"] == ["CMD", "haulage", "health"], arn


def check_endpoints_are_exactly_those_that_are_needed(aws, shared, outputs):
    endpoints = aws("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    kinds = {e["ServiceName"].removeprefix(f"com.amazonaws.{aws.region}."): e["VpcEndpointType"] for e in endpoints}
    assert kinds == {
        "ecr.api": "Interface", "ecr.dkr": "Interface", "logs": "Interface", "sqs": "Interface",
        "monitoring": "Interface", "s3": "Gateway", "dynamodb": "Gateway",
    }, kinds
    assert all(e["PrivateDnsEnabled"] for e in endpoints if e["VpcEndpointType"] == "Interface")
    for endpoint in endpoints:
        conditions = json.loads(endpoint["PolicyDocument"])["Statement"][0]["Condition"]
        assert conditions["StringEquals"] == {"aws:PrincipalAccount": ["123456789012"]}, endpoint
    assert set(shared["vpc_endpoints"]) == {"ecr_api", "ecr_dkr", "logs", "sqs", "monitoring", "s3", "dynamodb"}


def check_tasks_reach_the_endpoints_and_nothing_else(aws, shared, outputs):
    ec2 = aws("ec2")
    endpoints = ec2.describe_security_groups(GroupIds=[shared["security_group_id"]])["SecurityGroups"][0]
    clients = set()
    groups = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["web"]}])["SecurityGroups"]
    clients.update(group["GroupId"] for group in groups)
    assert len(clients) == 1, "what is let in besides the tasks"
    for name in [name for output in outputs.values() for name in output["service_names"]]:
        groups = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [f"{name}-worker"]}])
        worker = groups["SecurityGroups"][0]
        clients.add(worker["GroupId"])
        assert worker["IpPermissions"] == [], f"something may come in to {name}"
        for rule in worker["IpPermissionsEgress"]:
            assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 443, 443), rule
            assert not rule["IpRanges"] and not rule.get("Ipv6Ranges"), f"{name} may go out to addresses: {rule}"
        targets = {pair["GroupId"] for rule in worker["IpPermissionsEgress"] for pair in rule["UserIdGroupPairs"]}
        assert targets == {shared["security_group_id"]}, targets
    ingress = endpoints["IpPermissions"]
    assert {pair["GroupId"] for rule in ingress for pair in rule["UserIdGroupPairs"]} == clients
    assert all((rule["FromPort"], rule["ToPort"], rule["IpRanges"]) == (443, 443, []) for rule in ingress)


def check_queues_have_their_dead_letter_queues(aws, shared, outputs):
    sqs = aws("sqs")
    for name, output in outputs.items():
        attributes = lambda queue: sqs.get_queue_attributes(
            QueueUrl=sqs.get_queue_url(QueueName=queue)["QueueUrl"], AttributeNames=["All"]
        )["Attributes"]
        jobs, dead = attributes(output["queue_name"]), attributes(output["dlq_name"])
        redrive = json.loads(jobs["RedrivePolicy"])
        assert redrive == {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": 10}, redrive
        assert jobs["VisibilityTimeout"] == "30"
        assert {queue["MessageRetentionPeriod"] for queue in (jobs, dead)} == {"1209600"}
        assert {queue["MaximumMessageSize"] for queue in (jobs, dead)} == {"1048576"}, "a job and its dead letter"
    assert outputs["prod"]["queue_name"] == "prod.fifo" and outputs["prod"]["dlq_name"] == "prod-dlq.fifo"
    assert outputs["staging"]["queue_name"] == "staging", "a standard queue"


def check_queues_are_closed_to_others(aws, shared, outputs):
    sqs = aws("sqs")
    for output in outputs.values():
        for name in (output["queue_name"], output["dlq_name"], *_named(output)):
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
            attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            statements = {statement["Sid"]: statement for statement in json.loads(attributes["Policy"])["Statement"]}
            denied = {sid for sid, statement in statements.items() if statement["Effect"] == "Deny"}
            assert denied == {"TlsOnly", "NoOtherAccounts"}, statements
            allowed = set(statements) - denied
            assert allowed == ({"SenderNightly"} if name == "prod.fifo" else set()), allowed
            assert ("KmsMasterKeyId" in attributes) == name.startswith("prod"), attributes


def check_one_key_encrypts_all_of_prod(aws, shared, outputs):
    key, prod = aws.key(), outputs["prod"]
    table = aws("dynamodb").describe_table(TableName=prod["table_name"])["Table"]
    assert table["SSEDescription"]["KMSMasterKeyArn"] == key, table
    groups = aws("logs").describe_log_groups()["logGroups"]
    assert {g.get("kmsKeyId") for g in groups if "prod" in g["logGroupName"]} == {key}, groups
    (repository,) = aws("ecr").describe_repositories(repositoryNames=["prod"])["repositories"]
    assert repository["encryptionConfiguration"] == {"encryptionType": "KMS", "kmsKey": key}, repository


def check_table_is_paid_by_request_and_forgets(aws, shared, outputs):
    dynamodb = aws("dynamodb")
    for output in outputs.values():
        table = dynamodb.describe_table(TableName=output["table_name"])["Table"]
        assert table["KeySchema"] == [{"AttributeName": "message_id", "KeyType": "HASH"}]
        indexes = {index["IndexName"]: index for index in table["GlobalSecondaryIndexes"]}
        keys = {name: [key["AttributeName"] for key in index["KeySchema"]] for name, index in indexes.items()}
        assert keys == {"dead_letters": ["dead_of", "submitted_at"], "webhooks": ["webhook_of", "due_at"]}
        assert indexes["dead_letters"]["Projection"]["ProjectionType"] == "KEYS_ONLY"
        projection = indexes["webhooks"]["Projection"]
        assert projection["ProjectionType"] == "INCLUDE", projection
        assert sorted(projection["NonKeyAttributes"]) == ["created_at", "host", "job", "queue"], projection
        assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        backups = dynamodb.describe_continuous_backups(TableName=output["table_name"])["ContinuousBackupsDescription"]
        recovery = backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"]
        assert recovery == "ENABLED", "it can be restored"
        ttl = dynamodb.describe_time_to_live(TableName=output["table_name"])["TimeToLiveDescription"]
        assert (ttl["AttributeName"], ttl["TimeToLiveStatus"]) == ("expiration", "ENABLED")


def check_bucket_is_private_and_forgets(aws, shared, outputs):
    s3 = aws("s3")
    for output in outputs.values():
        bucket = output["bucket_name"]
        block = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        assert all(block.values()), block


def _named(output: dict) -> list[str]:
    """What the named queues of a pipeline are called in SQS."""
    return [queue["name"] for queue in output["named_queues"].values()]


def _permissions(aws, name: str, output: dict) -> dict[str, dict[str, set[str]]]:
    """Who may do what to what, of a pipeline."""
    arn = aws.arn
    queue, dead = arn("sqs", output["queue_name"]), arn("sqs", output["dlq_name"])
    table, bucket = arn("dynamodb", f"table/{output['table_name']}"), f"arn:aws:s3:::{output['bucket_name']}"
    objects = f"{bucket}/haulage/*"
    find = {queue: FIND, dead: {"sqs:GetQueueUrl"}}
    read = find | {table: READ, bucket: {"s3:ListBucket"}, objects: {"s3:GetObject"}}
    work = read | {queue: SEND | RECEIVE, dead: SEND, table: RECORDS, objects: OBJECTS}
    # The same of each queue.
    each = lambda actions: {arn("sqs", name): actions for name in _named(output)}
    # prod has a key of its own.
    key = lambda actions: {aws.key(): actions} if name == "prod" else {}
    return {
        "submit": find | key(KEY_WRITES) | each(SEND) | {
            queue: SEND,
            table: {"dynamodb:GetItem", "dynamodb:PartiQLInsert", "dynamodb:UpdateItem"},
            objects: {"s3:PutObject"},
        },
        "read": read | key(KEY_READS) | each(FIND),
        "cancel": find | key(KEY_WRITES) | each(FIND) | {table: READ | {"dynamodb:PutItem", "dynamodb:UpdateItem"}},
        "consumer": work | key(KEY_WRITES) | each(SEND | RECEIVE) | {arn("ecs", f"task/{name}/*"): {"ecs:UpdateTaskProtection"}},
        "operate": work | key(KEY_WRITES) | each(SEND | RECEIVE) | {
            "*": {"sqs:ListQueues"},
            dead: SEND | RECEIVE,
            table: RECORDS | LOOK_AFTER,
            f"{table}/index/dead_letters": {"dynamodb:Query"},
            f"{table}/index/webhooks": {"dynamodb:Query"},
            bucket: {"s3:GetLifecycleConfiguration", "s3:ListBucket"},
        },
    }


def _permissions_of_scaler(aws, name: str, queues: list[str], cluster: str, services: list[str]) -> dict[str, set[str]]:
    arn = aws.arn
    # That of staging leaves the services to alarms.
    count = {"ecs:UpdateService"} if name == "prod" else set()
    return {
        **{arn("sqs", queue): {"sqs:GetQueueAttributes"} for queue in queues},
        arn("logs", f"log-group:/aws/lambda/{name}-autoscale:*"): {"logs:CreateLogStream", "logs:PutLogEvents"},
        "*": {"cloudwatch:GetMetricData", "cloudwatch:PutMetricData"},
    } | {arn("ecs", f"service/{cluster}/{service}"): {"ecs:DescribeServices"} | count for service in services}


def granted(statements: list[dict]) -> dict[str, set[str]]:
    assert all(statement["Effect"] == "Allow" for statement in statements), statements
    found = {}
    for statement in statements:
        for resource in statement["Resource"]:
            found.setdefault(resource, set()).update(statement["Action"])
    return found


# A service that the stack scaler scales beside staging.
THUMBNAILS = {"cluster": "shop", "service": "thumbnails", "queue": "thumbnails", "task_family": "thumbnails"}
# The Lambda of prod, and that of the stack scaler, which scales staging.
SCALERS = {"prod": "prod", "staging": "haulage"}


def check_roles_and_policies_allow_what_is_listed_and_no_more(aws, shared, outputs):
    iam = aws("iam")
    for name, output in outputs.items():
        for who, expected in _permissions(aws, name, output).items():
            if who in output["policy_arns"]:
                arn = output["policy_arns"][who]
                version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
                document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
                if (name, who) == ("prod", "operate"):
                    # As inference_pipeline/variables_queue.tf counts it, so that no policy gets too long.
                    queue = f"'arn:aws:sqs:{aws.region}:{ACCOUNT}:prod--bulk.fifo',"
                    expected_size = 2777 + 19 * len(f"prod{aws.region}") + 20 * len("aws") + 3 * len(queue)
                    assert len(json.dumps(document, separators=(",", ":"))) == expected_size, document
                statements = [_lists(statement) for statement in document["Statement"]]
            else:
                statements = aws.statements(f"{name}-{who}")
            found = granted(statements)
            assert found == expected, f"{name}-{who}: {found} is not {expected}"
            for statement in statements:
                actions = set(statement["Action"])
                if any(action.startswith("kms:") for action in actions):
                    assert "kms:ViaService" in statement["Condition"]["StringEquals"], statement
                if actions & OBJECTS:
                    assert statement["Condition"] == {"StringEquals": {"s3:ResourceAccount": [ACCOUNT]}}, statement
        for statement in aws.statements(f"{name}-execution"):
            assert all("*" not in action for action in statement["Action"]), statement
            if "*" in statement["Resource"]:
                assert set(statement["Action"]) <= WITHOUT_RESOURCE, statement
            else:
                # A resource of this pipeline, or its repository.
                assert all(f"{name}" in resource for resource in statement["Resource"]), statement
        scaler = SCALERS[name]
        statements = aws.statements(f"{scaler}-autoscale")
        expected = _permissions_of_scaler(
            aws, scaler, [output["queue_name"], *_named(output)], name, output["service_names"]
        )
        if name == "staging":
            expected[aws.arn("sqs", "thumbnails")] = {"sqs:GetQueueAttributes"}
            expected[aws.arn("ecs", "service/shop/thumbnails")] = {"ecs:DescribeServices", "ecs:UpdateService"}
        assert granted(statements) == expected, f"{scaler}-autoscale: {statements}"
        put = next(s for s in statements if "cloudwatch:PutMetricData" in s["Action"])
        assert put["Condition"] == {"StringEquals": {"cloudwatch:namespace": ["Haulage"]}}, put
        for scale in (s for s in statements if "ecs:UpdateService" in s["Action"]):
            services = output["service_names"] if name == "prod" else ["thumbnails"]
            families = {aws.arn("ecs", f"task-definition/{service}:*") for service in services}
            assert set(scale["Condition"]) == {"ArnLikeIfExists"}, scale
            assert set(scale["Condition"]["ArnLikeIfExists"]["ecs:task-definition"]) == families, scale
    assert iam.list_users()["Users"] == [], "nobody has long-lived keys"


# Whether Lambda sends one, no page says: see modules/scaler.
WITHOUT_SOURCE_ARN = {"lambda.amazonaws.com"}


def check_services_assume_roles_for_their_own_resources_only(aws, shared, outputs):
    services = set()
    for role in aws("iam").list_roles()["Roles"]:
        for statement in role["AssumeRolePolicyDocument"]["Statement"]:
            service, conditions = statement["Principal"]["Service"], statement["Condition"]
            services.add(service)
            assert conditions["StringEquals"] == {"aws:SourceAccount": [ACCOUNT]}, role
            arns = {**conditions.get("ArnLike", {}), **conditions.get("ArnEquals", {})}
            if service in WITHOUT_SOURCE_ARN:
                assert not arns, role
            else:
                prefix = aws.arn(service.split(".")[0].removesuffix("-tasks"), "")
                assert [arn.startswith(prefix) for arn in arns["aws:SourceArn"]] == [True], role
    assert services == {f"{name}.amazonaws.com" for name in ("ecs-tasks", "lambda", "pipes", "states")}, services


def check_tasks_stop_in_peace_and_bad_deployments_roll_back(aws, shared, outputs):
    ecs = aws("ecs")
    for name, output in outputs.items():
        found = ecs.describe_services(cluster=output["cluster_name"], services=[output["service_name"]])
        service = found["services"][0]
        breaker = service["deploymentConfiguration"]["deploymentCircuitBreaker"]
        assert breaker == {"enable": True, "rollback": True}, breaker
        definition = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
        container = definition["containerDefinitions"][0]
        assert container["stopTimeout"] == 120
        environment = {pair["name"]: pair["value"] for pair in container["environment"]}
        assert environment["HAULAGE_URL"].startswith(f"{output['haulage_url'].split('?')[0]}?table={name}-records&")
        assert "ecs_protection=require" in environment["HAULAGE_URL"]
        assert environment.get("HAULAGE_QUEUE") == ("default,bulk" if name == "prod" else None), environment
        providers = {item["capacityProvider"] for item in service["capacityProviderStrategy"]}
        assert providers == ({"FARGATE"} if name == "prod" else {"FARGATE_SPOT"}), providers


def check_alarms_drive_the_policies(aws, shared, outputs):
    cloudwatch, scaling = aws("cloudwatch"), aws("application-autoscaling")
    for name, output in outputs.items():
        resource = f"service/{output['cluster_name']}/{output['service_name']}"
        targets = scaling.describe_scalable_targets(ServiceNamespace="ecs", ResourceIds=[resource])["ScalableTargets"]
        if name == "prod":
            assert targets == [], "the Lambda sets the count itself"
            continue
        assert [(target["MinCapacity"], target["MaxCapacity"]) for target in targets] == [(0, 10)]
        policies = scaling.describe_scaling_policies(ServiceNamespace="ecs", ResourceId=resource)["ScalingPolicies"]
        by_name = {policy["PolicyName"]: policy for policy in policies}
        assert set(by_name) == {f"{name}-scale-out", f"{name}-scale-in", f"{name}-capacity-demand"}
        dimensions = {"ClusterName": name, "ServiceName": name, "QueueName": output["queue_name"]}
        for kind, metric in (("scale-out", "ScaleOutTo"), ("scale-in", "ScaleInTo")):
            alarm = cloudwatch.describe_alarms(AlarmNames=[f"{name}-{kind}"])["MetricAlarms"][0]
            assert (alarm["Namespace"], alarm["MetricName"]) == ("Haulage", metric)
            assert {d["Name"]: d["Value"] for d in alarm["Dimensions"]} == dimensions
            assert alarm["AlarmActions"] == [by_name[f"{name}-{kind}"]["PolicyARN"]]


def check_steps_leave_no_gap(aws, shared, outputs):
    scaling = aws("application-autoscaling")
    policies = scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"]
    steps = {p["PolicyName"]: p["StepScalingPolicyConfiguration"] for p in policies if p["PolicyType"] == "StepScaling"}
    for name, policy in steps.items():
        bounds = sorted(policy["StepAdjustments"], key=lambda step: step["ScalingAdjustment"])
        assert len(bounds) <= 20, f"{name}: a policy has 20 steps at most"
        for lower, upper in zip(bounds, bounds[1:]):
            assert lower["MetricIntervalUpperBound"] == upper["MetricIntervalLowerBound"], (name, lower, upper)
        out = name.endswith("out")
        assert ("MetricIntervalUpperBound" not in bounds[-1]) == out, name
        assert ("MetricIntervalLowerBound" not in bounds[0]) != out, name


def check_the_lambda_is_run_each_minute_for_its_pair(aws, shared, outputs):
    events = aws("events")
    for name, output in outputs.items():
        rule = events.describe_rule(Name=f"{SCALERS[name]}-autoscale")
        assert rule["ScheduleExpression"] == "rate(1 minute)"
        target = events.list_targets_by_rule(Rule=rule["Name"])["Targets"][0]
        pairs = json.loads(target["Input"])["pairs"]
        others = [pair for pair in pairs if pair["service"] == "thumbnails"]
        pairs = [pair for pair in pairs if pair not in others]
        bounds = {"min_tasks": 0, "max_tasks": 10, "scale_in_window_seconds": 120}
        assert [pair["direct"] for pair in others] == [bounds] * (name == "staging"), others
        assert [pair["service"] for pair in pairs] == output["service_names"], pairs
        assert [pair["slots_before"] for pair in pairs] == [0, 10][:len(pairs)], "what comes before it"
        pair = pairs[0]
        assert pair["queue_name"] == output["queue_name"] and pair["target_seconds"] == 60
        bounds = {"min_tasks": 1, "max_tasks": 10, "scale_in_window_seconds": 120}
        assert pair["direct"] == (bounds if name == "prod" else None), pair
        assert pair["queue_url"].endswith(f"/{output['queue_name']}")
        assert [url.rsplit("/", 1)[1] for url in pair["more_queue_urls"]] == _named(output), pair


def check_alarms_for_people_are_there(aws, shared, outputs):
    alarms = {alarm["AlarmName"] for alarm in aws("cloudwatch").describe_alarms()["MetricAlarms"]}
    kinds = {"dead-letters", "oldest-job", "retention", "no-progress", "task-failures"}
    of_lambda = {"lambda-errors", "lambda-silent"}
    assert {f"haulage-{kind}" for kind in of_lambda} == set(shared["alarm_names"]) <= alarms
    for name, output in outputs.items():
        expected = kinds | (of_lambda if name == "prod" else set())
        expected |= {f"{kind}-{queue}" for queue in output["named_queues"] for kind in ("oldest-job", "retention")}
        assert {f"{name}-{kind}" for kind in expected} == set(output["alarm_names"]) <= alarms
    found = aws("cloudwatch").describe_alarms(AlarmNamePrefix="prod-")["MetricAlarms"]
    metrics = [{**alarm, **query["MetricStat"]["Metric"]} if query else alarm for alarm in found for query in (
        [query for query in alarm.get("Metrics", []) if "MetricStat" in query] or [None]
    )]
    (bulk,) = _named(outputs["prod"])
    of_bulk = [metric for metric in metrics if {"Name": "QueueName", "Value": bulk} in metric["Dimensions"]]
    assert len(of_bulk) == costs.NAMED_QUEUE_METRICS, of_bulk
    dashboards = aws("cloudwatch").list_dashboards()["DashboardEntries"]
    assert [entry["DashboardName"] for entry in dashboards] == ["prod"], "made where it is asked for"


def check_reports_of_failed_tasks_are_kept(aws, shared, outputs):
    policies = aws("logs").describe_resource_policies()["resourcePolicies"]
    names = [policy["policyName"] for policy in policies]
    assert names == [f"haulage-{shared['vpc_id']}-events"], "one for all pipelines of the VPC"
    document = json.loads(policies[0]["policyDocument"])
    statement = _lists(document["Statement"][0])
    assert statement["Resource"][0].endswith(":log-group:/aws/events/*:*"), statement
    for name in outputs:
        rule = aws("events").describe_rule(Name=f"{name}-task-failures")
        pattern = json.loads(rule["EventPattern"])["detail"]
        assert pattern["group"] == [f"service:{service}" for service in outputs[name]["service_names"]], pattern
        assert pattern["clusterArn"][0].endswith(f":cluster/{name}") and "SpotInterruption" not in pattern["stopCode"]
        target = aws("events").list_targets_by_rule(Rule=rule["Name"])["Targets"][0]["Arn"]
        assert f":log-group:/aws/events/{name}-task-failures" in target, target


def check_names_can_be_looked_up(aws, shared, outputs):
    ssm = aws("ssm")
    for name, output in outputs.items():
        for parameter in ("queue_name", "table_name"):
            value = ssm.get_parameter(Name=f"/{name}/{parameter}")["Parameter"]["Value"]
            assert value == output[parameter]
