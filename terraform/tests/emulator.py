"""moto, an emulator of AWS, with what a clean second plan and `make e2e-local` need besides."""

import json
import os
import re
import sys

os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.ec2.models.security_groups import SecurityGroup, SecurityGroupRule
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.server import main
from moto.sqs.models import Queue

_describe_policies = ApplicationAutoScalingResponse.describe_scaling_policies
_queue_attributes = Queue.attributes
_batch_execute_statement = DynamoDBBackend.batch_execute_statement
_create_service = EC2ContainerServiceResponse.create_service
_new_rule = SecurityGroupRule.__init__
_grouped_rules = SecurityGroup._flattened_rules


def describe_policies(self):
    """As AWS does, only those of the names that were asked for."""
    answer = json.loads(_describe_policies(self))
    names = self._get_param("PolicyNames") or []
    if names:
        answer["ScalingPolicies"] = [p for p in answer["ScalingPolicies"] if p["PolicyName"] in names]
    return json.dumps(answer)


def queue_attributes(self):
    """As AWS does, with the redrive policy in the form in which it was set."""
    attributes = _queue_attributes.fget(self)
    if attributes.get("RedrivePolicy"):
        policy = json.loads(attributes["RedrivePolicy"])
        attributes["RedrivePolicy"] = json.dumps(policy, separators=(",", ":"))
    return attributes


def new_rule(self, *arguments, **options):
    """Keeps the description of a rule for a prefix list."""
    _new_rule(self, *arguments, **options)
    prefix_list = options.get("prefix_list_id") or (arguments[7] if len(arguments) > 7 else None)
    self.prefix_list = prefix_list


def grouped_rules(self, rules):
    """As AWS does, with these descriptions."""
    rules = list(rules)
    described = {rule.prefix_list_id: rule.prefix_list for rule in rules if rule.prefix_list_id}
    views = _grouped_rules(self, rules)
    for view in views:
        view.prefix_list_ids = [described[entry["PrefixListId"]] for entry in view.prefix_list_ids]
    return views


def create_service(self):
    """As AWS does, with what the service was created with kept."""
    result = _create_service(self)
    service = result.result["service"]
    strategy = self._get_param("capacityProviderStrategy")
    deployment = self._get_param("deploymentConfiguration")
    if strategy:
        service.capacity_provider_strategy = strategy
        service.launch_type = None
    if deployment:
        service.deployment_configuration = {"maximumPercent": 200, "minimumHealthyPercent": 100, **deployment}
    service.enableECSManagedTags = bool(self._get_param("enableECSManagedTags"))
    return result


def batch_execute_statement(self, statements):
    """As AWS does, inserts with their values apart."""
    answers = []
    for statement in statements:
        insert = re.fullmatch(r'INSERT INTO "(.+?)" VALUE \{(.+)\}', statement["Statement"])
        table = insert and self.tables.get(insert[1])
        if not table:
            answers += _batch_execute_statement(self, [statement])
            continue
        item = dict(zip(re.findall(r"'(.+?)': \?", insert[2]), statement["Parameters"]))
        if table.get_item(DynamoType(item[table.hash_key_attr])):
            answers.append({"Error": {"Code": "DuplicateItem", "Message": "there is one"}})
        else:
            table.put_item(item)
            answers.append({"TableName": table.name})
    return answers


ApplicationAutoScalingResponse.describe_scaling_policies = describe_policies
DynamoDBBackend.batch_execute_statement = batch_execute_statement
Queue.attributes = property(queue_attributes)
EC2ContainerServiceResponse.create_service = create_service
SecurityGroupRule.__init__ = new_rule
SecurityGroup._flattened_rules = grouped_rules

if __name__ == "__main__":
    main(sys.argv[1:])
