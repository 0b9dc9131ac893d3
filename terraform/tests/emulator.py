"""moto, an emulator of AWS, with what a clean second plan needs besides."""

import json
import os
import sys

os.environ.setdefault("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.server import main
from moto.sqs.models import Queue

_describe_policies = ApplicationAutoScalingResponse.describe_scaling_policies
_queue_attributes = Queue.attributes
_create_service = EC2ContainerServiceResponse.create_service


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


def create_service(self):
    """As AWS does, with the strategy and the deployment's configuration kept."""
    result = _create_service(self)
    service = result.result["service"]
    strategy = self._get_param("capacityProviderStrategy")
    deployment = self._get_param("deploymentConfiguration")
    if strategy:
        service.capacity_provider_strategy = strategy
        service.launch_type = None
    if deployment:
        service.deployment_configuration = {"maximumPercent": 200, "minimumHealthyPercent": 100, **deployment}
    return result


ApplicationAutoScalingResponse.describe_scaling_policies = describe_policies
Queue.attributes = property(queue_attributes)
EC2ContainerServiceResponse.create_service = create_service

if __name__ == "__main__":
    main(sys.argv[1:])
