"""ministack, with what its ECS lacks where tasks work: protection, and a scale-in that heeds it.

With the client library of Docker, and an engine, ministack runs a service's tasks as containers, starts
more as its desired count grows, and stops what is beyond it: the newest first, busy or not, within five
seconds. It knows no protection. From here are, as ECS has them:

- the agent's endpoint for protection in each container (``$ECS_AGENT_URI``), and ``GetTaskProtection``;
- a scale-in that stops tasks without protection only, and goes on when a task gives up its own;
- the time that the container definition gives a task to stop.

As in ECS, a task is protected or chosen to stop, and never both. A protection does not expire here, and
no deployment is looked after. Tasks join the network ``ECS_NETWORK``, and reach this process, which runs
on the machine itself, at the address ``ECS_HOST``.
"""

import json
import os
import sys
import threading

from ministack.app import main
from ministack.core.concurrency import spawn_background
from ministack.core.responses import json_response
from ministack.services import ecs, ecs_metadata

NETWORK, HOST = os.environ["ECS_NETWORK"], os.environ["ECS_HOST"]
STATE = "task-protection/v1/state"

_choice = threading.Lock()
_metadata, _reconcile = ecs_metadata.handle_request, ecs._reconcile_service_tasks
_register, _run_kwargs = ecs._register_metadata, ecs._build_run_kwargs


def register(task, cluster, definition, container, launch_type, environment, host_mode, _address):
    """Tells a container where its agent is."""
    token = _register(task, cluster, definition, container, launch_type, environment, host_mode, HOST)
    environment["ECS_AGENT_URI"] = environment["ECS_CONTAINER_METADATA_URI_V4"]
    return token


def run_kwargs(container, definition, environment, ports, _network, host_mode, id_, task, _address, cluster):
    options = _run_kwargs(
        container, definition, environment, ports, NETWORK, host_mode, id_, task, HOST, cluster
    )
    # By which the tests find what a run that was cut short has left.
    options["labels"]["com.docker.compose.project"] = NETWORK
    return options


async def agent(method, path, headers, body, query):
    """The endpoint in a container: protection, beside the metadata that ministack has."""
    token, _, rest = path.removeprefix("/v4/").partition("/")
    task = ecs._tasks.get(ecs_metadata._TOKEN_TO_TASK.get(token, ""))
    if rest != STATE or task is None:
        return await _metadata(method, path, headers, body, query)
    if method == "PUT" and not protect(task, json.loads(body)["ProtectionEnabled"]):
        failure = {"Arn": task["taskArn"], "Reason": "TASK_NOT_VALID", "Detail": "the task is stopping"}
        return json_response({"failure": failure})
    state = {"ProtectionEnabled": bool(task.get("_protected")), "TaskArn": task["taskArn"]}
    return json_response({"protection": state})


def protect(task, enabled):
    """Whether it could be done."""
    with _choice:
        if task["desiredStatus"] == "STOPPED":
            return False
        task["_protected"] = enabled
    if not enabled:
        cluster, service = task["clusterArn"].rsplit("/")[-1], task["group"].removeprefix("service:")
        spawn_background(ecs._reconcile_service_tasks, cluster, f"{cluster}/{service}")
    return True


def get_protection(request):
    cluster = ecs._resolve_cluster_name(request["cluster"])
    tasks = [ecs._resolve_task(task, cluster) for task in request["tasks"]]
    protected = [
        {"taskArn": task["taskArn"], "protectionEnabled": bool(task.get("_protected"))} for task in tasks
    ]
    return json_response({"protectedTasks": protected, "failures": []})


def reconcile(cluster, key):
    """Stops as many tasks as are beyond the desired count, of those that are not protected."""
    service = ecs._services[key]
    with _choice:
        tasks = [
            task
            for task in ecs._tasks.values()
            if (task["clusterArn"], task["group"])
            == (service["clusterArn"], f"service:{service['serviceName']}")
            and task["desiredStatus"] == "RUNNING"
        ]
        idle = [task for task in tasks if not task.get("_protected")]
        surplus = max(0, len(tasks) - service["desiredCount"])
        # The newest first, as ministack has it; nobody may rely on an order.
        stopped = idle[::-1][:surplus]
        for task in stopped:
            task.update(desiredStatus="STOPPED", stoppingAt=ecs._iso(), stopCode="ServiceSchedulerInitiated")
            if task["lastStatus"] == "RUNNING":
                task["lastStatus"] = "DEACTIVATING"
    for task in stopped:
        spawn_background(stop, task, cluster)
    if not surplus:
        _reconcile(cluster, key)
    ecs._refresh_service_state(cluster, f"service:{service['serviceName']}")


def stop(task, cluster):
    """SIGTERM to each container, and SIGKILL once its time is over."""
    docker = ecs._get_docker()
    definition = ecs._task_defs[ecs._resolve_td_key(task["taskDefinitionArn"])]
    for docker_id, known, container in zip(
        task["_docker_ids"], task["containers"], definition["containerDefinitions"]
    ):
        process = docker.containers.get(docker_id)
        process.stop(timeout=container.get("stopTimeout", 30))
        known.update(lastStatus="STOPPED", exitCode=process.wait()["StatusCode"])
    task.update(
        lastStatus="STOPPED", stoppedAt=ecs._iso(), stoppedReason="Scaling activity initiated by the service"
    )
    ecs._cleanup_task_resources(task, docker)


# Images are those that the engine has.
ecs._prepare_service_images = lambda *_: None
ecs._register_metadata, ecs._build_run_kwargs = register, run_kwargs
ecs._reconcile_service_tasks = reconcile
ecs._ACTION_MAP["GetTaskProtection"] = get_protection
ecs_metadata.handle_request = agent

if __name__ == "__main__":
    sys.exit(main())
