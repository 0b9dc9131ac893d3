# What is set up, against the current provider's schema, with made-up ids.

mock_provider "aws" {
  mock_resource "aws_ecs_cluster" {
    defaults = { arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/jobs" }
  }
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_vpc_endpoint" {
    defaults = { security_group_ids = ["sg-0123456789abcdef0"], vpc_id = "vpc-0123456789abcdef0" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_ecr_repository" {
    defaults = { arn = "arn:aws:ecr:eu-central-1:123456789012:repository/jobs" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:jobs" }
  }
}

variables {
  name                = "jobs"
  vpc_id              = "vpc-0123456789abcdef0"
  subnet_ids          = ["subnet-0123456789abcdef0"]
  sqs_vpc_endpoint_id = "vpce-0123456789abcdef0"
  lambda_package      = { path = "tests/package.zip" }
  container_tag       = "v1"
}

run "defaults" {
  assert {
    condition     = output.queue_name == "jobs.fifo" && output.dlq_name == "jobs-dlq.fifo" && output.table_name == "jobs-records"
    error_message = "Names follow from the pipeline's."
  }
  assert {
    condition     = startswith(output.haulage_url, "sqs://jobs.fifo?table=jobs-records&region=eu-central-1&bucket=") && endswith(output.haulage_url, "&bucket_owner=123456789012")
    error_message = "Producers get a URL that the command line takes."
  }
  assert {
    condition     = length(output.alarm_names) == 7
    error_message = "Seven alarms."
  }
  assert {
    condition     = !output.scaler_pairs["jobs"].dashboard
    error_message = "Without a dashboard, nothing reads what that would show."
  }
  assert {
    condition     = toset(keys(aws_ssm_parameter.this)) == toset(["queue_name", "table_name"])
    error_message = "The names can be looked up."
  }
  assert {
    condition     = length(module.repository) == 1
    error_message = "Without a repository one is made."
  }
  assert {
    condition     = length(module.event_logs) == 0
    error_message = "The endpoints stack has it."
  }
  assert {
    condition     = abs(local.dollars_per_task_hour - 0.05826) < 0.000001
    error_message = "One vCPU and 4 GB: 0.04048 + 4 * 0.004445."
  }
}

run "as_little_as_can_be" {
  variables {
    enable_autoscaling = false
    enable_alarms      = false
    payload_bucket     = false
    queue_fifo         = false
    lambda_package     = null
    ecr                = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/model"
  }

  assert {
    condition     = output.queue_name == "jobs" && output.bucket_name == null && output.alarm_names == []
    error_message = "What is not wanted is not made."
  }
  assert {
    condition     = length(module.repository) == 0 && output.ecr_repository_url == var.ecr
    error_message = "The repository that is given is used."
  }
  assert {
    condition     = local.repository_arn == "arn:aws:ecr:eu-central-1:123456789012:repository/team/model"
    error_message = "The tasks may pull from that repository alone: ${local.repository_arn}"
  }
}

run "gpus_on_a_capacity_provider" {
  variables {
    gpus              = 1
    capacity_provider = "gpu-instances"
    cpu               = 7000
    memory            = 30000
  }

  assert {
    condition     = output.service_name == "jobs" && local.dollars_per_task_hour == null
    error_message = "What Fargate has not can be had elsewhere, in any size, at a price that we do not know."
  }
}

run "a_minimum_above_the_first_count" {
  variables {
    service_autoscaling_min_capacity = 3
  }
  assert {
    condition     = local.desired_count == 3
    error_message = "Autoscaling would not bring the service up to its minimum."
  }
}

run "a_first_apply_without_an_image" {
  command = plan
  variables {
    service_autoscaling_min_capacity = 0
  }
  assert {
    condition     = local.desired_count == 0
    error_message = "No task starts that would find none."
  }
}

run "one_task_without_autoscaling" {
  command = plan
  variables {
    enable_autoscaling = false
    lambda_package     = null
  }
  assert {
    condition     = local.desired_count == 1
    error_message = "Else nothing would ever run."
  }
}

run "a_count_without_autoscaling" {
  variables {
    enable_autoscaling               = false
    lambda_package                   = null
    desired_count                    = 2
    service_autoscaling_min_capacity = 3
  }
  assert {
    condition     = local.desired_count == 2
    error_message = "Without autoscaling there is no minimum."
  }
}

run "another_architecture_and_size" {
  variables {
    cpu_architecture = "ARM64"
    cpu              = 2048
    memory           = 8192
  }
  assert {
    condition     = abs(local.dollars_per_task_hour - 0.09324) < 0.000001
    error_message = "Two vCPUs and 8 GB: 2 * 0.03238 + 8 * 0.00356."
  }
}

run "a_vpc_without_endpoints" {
  command = plan
  variables {
    sqs_vpc_endpoint_id = null
  }
  assert {
    condition     = length(data.aws_vpc_endpoint.sqs) == 0 && local.endpoint_security_group_id == null
    error_message = "Nobody asks for an endpoint."
  }
  assert {
    condition     = length(module.event_logs) == 1
    error_message = "Reports of failed tasks can be written without the endpoints stack."
  }
}

run "an_endpoint_with_more_groups" {
  variables {
    endpoint_security_group_id = "sg-0123456789abcdef1"
  }
  override_data {
    target = data.aws_vpc_endpoint.sqs[0]
    values = {
      security_group_ids = ["sg-0123456789abcdef0", "sg-0123456789abcdef1"]
      vpc_id             = "vpc-0123456789abcdef0"
    }
  }
  assert {
    condition     = local.endpoint_security_group_id == "sg-0123456789abcdef1"
    error_message = "The one that was said."
  }
}

run "a_tag_that_may_move" {
  command = plan
  variables {
    container_tag    = "latest"
    ecr_mutable_tags = true
  }
  assert {
    condition     = length(module.repository) == 1
    error_message = "Who wants that, says so."
  }
}

run "all_that_a_task_may_have" {
  command = plan
  variables {
    container_secrets              = { HUB_TOKEN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:hub-AbCdEf" }
    container_secrets_kms_key_arns = ["arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"]
    sidecars                       = { model = { image = "public.ecr.aws/team/server:v1", mounts = { cache = "/cache" } } }
    volumes                        = { cache = { path = "/cache" }, tmp = { path = "/tmp" } }
    container                      = { user = "1000", drop = ["ALL"] }
    container_definitions          = { worker = { workingDirectory = "/app" }, model = { stopTimeout = 90 } }
    enable_execute_command         = true
    cluster_arn                    = "arn:aws:ecs:eu-central-1:123456789012:cluster/shared"
  }
  assert {
    condition     = output.cluster_name == "shared" && output.cluster_arn == var.cluster_arn
    error_message = "It is in the cluster that was there."
  }
}

run "more_services_without_autoscaling" {
  command = plan
  variables {
    enable_autoscaling = false
    more_services      = [{ name = "spot" }, { name = "two", min_capacity = 2 }]
  }
  assert {
    condition     = local.more_desired_counts == { spot = 1, two = 2 } && local.desired_count == 1
    error_message = "Each starts a task, as nothing else would."
  }
}

run "ipv6_alone" {
  command = plan
  variables {
    sqs_vpc_endpoint_id   = null
    ecr                   = "123456789012.dkr-ecr.eu-central-1.on.aws/models/speech"
    container_environment = { AWS_USE_DUALSTACK_ENDPOINT = "true" }
  }
  assert {
    condition     = local.repository_arn == "arn:aws:ecr:eu-central-1:123456789012:repository/models/speech" && length(module.repository) == 0
    error_message = "The image may be pulled by its dual-stack name: ${local.repository_arn}"
  }
}

run "more_services_on_one_queue" {
  command = plan
  variables {
    concurrency                      = 2
    service_autoscaling_max_capacity = 10
    more_services = [
      { name = "spot", fargate = { weight = 0, spot_weight = 1 }, max_capacity = 30, environment = { MODE = "spot" } },
      { name = "gpu", capacity_provider = "gpu", gpus = 1, concurrency = 8, cpu = 7000, memory = 30000, max_capacity = 4 },
    ]
  }
  assert {
    condition = { for name, pair in output.scaler_pairs : name => [pair.slots_before, pair.slots_per_task, pair.min_tasks, pair.max_tasks] } == {
      jobs      = [0, 2, 1, 10]
      jobs-spot = [20, 2, 0, 30]
      jobs-gpu  = [80, 8, 0, 4]
    }
    error_message = "Each begins where those before it have no slots left: ${jsonencode(output.scaler_pairs)}"
  }
  assert {
    condition     = output.service_names == ["jobs", "jobs-spot", "jobs-gpu"] && length(module.scaler) == 1
    error_message = "One Lambda scales them."
  }
  assert {
    condition     = join(" ", local.more_capacity_providers) == "FARGATE FARGATE_SPOT gpu"
    error_message = "The cluster has what each of them starts on."
  }
}

# A GPU, a model server on it, and all that only an instance has; beyond it, CPUs of Fargate.
run "on_cpus_beyond_those_on_gpus" {
  command = plan
  variables {
    capacity_provider     = "gpu"
    container_environment = { HAULAGE_GPUS = "all", MODE = "fast" }
    sidecars              = { server = { image = "public.ecr.aws/model/server:1", gpus = 1 } }
    volumes               = { models = { path = "/models", host_path = "/opt/models" } }
    container             = { shared_memory_mib = 1024 }
    container_definitions = { server = { workingDirectory = "/srv" }, worker = { workingDirectory = "/app" } }
    concurrency           = 4
    more_services = [
      { name = "cpu", on_fargate = true, sidecars = {}, volumes = {}, container = { read_only = true }, environment = { MODE = "slow" } },
      { name = "served", on_fargate = true, sidecars = { server = { image = "public.ecr.aws/model/server:1-cpu" } }, volumes = {}, container = {} },
      { name = "more" },
    ]
  }
  assert {
    condition     = { for name, sidecars in local.more_sidecars : name => [for sidecar in values(sidecars) : sidecar.gpus] } == { cpu = [], served = [0], more = [1] }
    error_message = "Each has the sidecars that it says, or those of the first."
  }
  assert {
    condition = { for name, environment in local.more_environments : name => jsonencode(environment) } == {
      cpu    = jsonencode({ MODE = "slow" })
      served = jsonencode({ MODE = "fast" })
      more   = jsonencode({ HAULAGE_GPUS = "all", MODE = "fast" })
    }
    error_message = "Each has its own over those of the first, and no worker of Fargate looks for GPUs: ${jsonencode(local.more_environments)}"
  }
  assert {
    condition     = [for pair in output.scaler_pairs : pair.slots_per_task] == [4, 4, 4, 4]
    error_message = "Each has its slots."
  }
}

run "scaled_by_another_stack" {
  command = plan
  variables {
    create_scaler  = false
    lambda_package = null
    scaler         = "alarms"
  }
  assert {
    condition     = length(module.scaler) == 0 && length(module.scaling_alarms) == 1 && length(output.alarm_names) == 5
    error_message = "The Lambda is elsewhere, and the alarms that it drives are here."
  }
  assert {
    condition     = output.scaler_pairs["jobs"].scaler == "alarms" && output.scaler_pairs["jobs"].queue == "jobs.fifo"
    error_message = "It is told what to look at."
  }
}

run "told_of_ends" {
  command = plan
  variables {
    completion_events = {}
  }
  assert {
    condition     = length(module.completion_events) == 1
    error_message = "By the default bus."
  }
}

run "metrics_that_the_dashboard_shows" {
  command = plan
  variables {
    enable_dashboard = true
    more_services    = [{ name = "spot" }]
  }
  assert {
    condition     = { for name, pair in output.scaler_pairs : name => pair.dashboard } == { "jobs" = true, "jobs-spot" = false }
    error_message = "It is one of the first service, and nothing else reads them."
  }
}

run "states_that_wait" {
  command = plan
  variables {
    step_functions = { heartbeats = false }
  }
  assert {
    condition     = length(module.task_tokens) == 1 && length(module.completion_events) == 0
    error_message = "They are told of their jobs, and nobody else."
  }
}

run "senders_to_a_named_queue" {
  command = plan
  variables {
    queues        = ["bulk"]
    queue_senders = { web = { principal_arns = ["arn:aws:iam::210987654321:role/web"], queues = ["bulk"] } }
  }
  assert {
    condition     = var.queue_senders["web"].queues == tolist(["bulk"])
    error_message = "To that one, and not to the default one."
  }
}

run "named_queues_in_order" {
  command = plan
  variables {
    queues = ["interactive", "default", "bulk"]
  }
  assert {
    condition     = join(",", local.served_queues) == "interactive,default,bulk" && toset(keys(output.named_queues)) == toset(["interactive", "bulk"])
    error_message = "The default one has its place, and is there anyway."
  }
  assert {
    condition     = [for queue in output.scaler_pairs["jobs"].more_queues : queue.name] == ["jobs--interactive.fifo", "jobs--bulk.fifo"]
    error_message = "What waits in them is scaled for."
  }
}

run "the_default_queue_comes_last" {
  command = plan
  variables {
    queues = ["interactive"]
  }
  assert {
    condition     = join(",", local.served_queues) == "interactive,default"
    error_message = "Nobody would serve it else."
  }
}
