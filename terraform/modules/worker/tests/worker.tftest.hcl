mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/made-up" }
  }
}

variables {
  name                       = "jobs"
  image                      = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/model:v1"
  repository_arn             = "arn:aws:ecr:eu-central-1:123456789012:repository/model"
  vpc_id                     = "vpc-0123456789abcdef0"
  subnet_ids                 = ["subnet-0123456789abcdef0"]
  endpoint_security_group_id = "sg-0123456789abcdef0"
  gateway_prefix_list_ids    = ["pl-1", "pl-2"]
  queue_name                 = "jobs.fifo"
  table_name                 = "jobs-records"
  consume_policy             = "{\"Version\":\"2012-10-17\",\"Statement\":[]}"
}

run "defaults" {
  assert {
    condition     = !aws_ecs_service.worker.network_configuration[0].assign_public_ip
    error_message = "No public address."
  }
  assert {
    condition     = aws_ecs_service.worker.deployment_circuit_breaker[0].enable && aws_ecs_service.worker.deployment_circuit_breaker[0].rollback
    error_message = "A bad deployment rolls back."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].stopTimeout == 120
    error_message = "Jobs have two minutes to end."
  }
  assert {
    condition     = !can(jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].healthCheck)
    error_message = "What is not set is left out, or a second plan would differ."
  }
  assert {
    condition     = contains([for pair in jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].environment : pair.value if pair.name == "HAULAGE_URL"], "sqs://jobs.fifo?table=jobs-records&region=eu-central-1&ecs_protection=require")
    error_message = "The worker is told where its jobs are."
  }
  assert {
    condition = alltrue([
      for pair in jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].environment :
      pair.value == aws_ecs_service.worker.name if contains(["HAULAGE_CLUSTER_NAME", "HAULAGE_SERVICE_NAME"], pair.name)
    ]) && aws_ecs_cluster.this[0].name == aws_ecs_service.worker.name
    error_message = "The worker publishes its metrics under the names of cluster and service."
  }
  assert {
    condition     = length([for pair in jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].environment : pair if contains(["HAULAGE_CLUSTER_NAME", "HAULAGE_SERVICE_NAME"], pair.name)]) == 2
    error_message = "It needs both to publish any."
  }
  assert {
    condition     = contains([for pair in jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].environment : pair.value if pair.name == "HAULAGE_HTTP_LISTEN"], "127.0.0.1:9464")
    error_message = "It can be asked for its health, within the task."
  }
  assert {
    condition     = aws_ecs_task_definition.worker.runtime_platform[0].cpu_architecture == "X86_64"
    error_message = "The architecture is set."
  }
  assert {
    condition     = aws_ecs_cluster_capacity_providers.this[0].capacity_providers == toset(["FARGATE", "FARGATE_SPOT"])
    error_message = "The cluster has both, so that weights can change."
  }
}

run "deployments" {
  assert {
    condition     = aws_ecs_service.worker.force_new_deployment
    error_message = "Without, ECS refuses another capacity provider strategy."
  }
  assert {
    condition     = aws_ecs_service.worker.availability_zone_rebalancing == "DISABLED"
    error_message = "No task is stopped for the sake of balance."
  }
  assert {
    condition     = contains([for pair in jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].environment : pair.value if pair.name == "AWS_REGION"], "eu-central-1")
    error_message = "On instances nobody else tells the region."
  }
  assert {
    condition     = length(aws_ecs_task_definition.worker.ephemeral_storage) == 0
    error_message = "The disk is what Fargate has."
  }
}

run "results_for_readers_from_before" {
  variables {
    keep_successes = true
  }
  assert {
    condition     = contains([for pair in jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].environment : pair.value if pair.name == "HAULAGE_URL"], "sqs://jobs.fifo?table=jobs-records&region=eu-central-1&ecs_protection=require&keep_successes=true")
    error_message = "The worker writes results that do not expire."
  }
}

run "a_large_image" {
  variables {
    ephemeral_storage_gib = 100
  }
  assert {
    condition     = aws_ecs_task_definition.worker.ephemeral_storage[0].size_in_gib == 100
    error_message = "The disk is as large as was asked for."
  }
}

run "spot_above_an_on_demand_base" {
  variables {
    fargate = { base = 2, weight = 0, spot_weight = 1 }
  }
  assert {
    condition     = toset([for s in aws_ecs_service.worker.capacity_provider_strategy : "${s.capacity_provider} ${s.base} ${s.weight}"]) == toset(["FARGATE 2 0", "FARGATE_SPOT 0 1"])
    error_message = "Two on demand, the rest on Spot."
  }
}

run "gpus" {
  variables {
    capacity_provider = "gpu"
    gpus              = 2
    cpu               = 7000
    memory            = 30000
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].resourceRequirements == [{ type = "GPU", value = "2" }]
    error_message = "The container gets its GPUs."
  }
  assert {
    condition     = aws_ecs_task_definition.worker.requires_compatibilities == toset(["MANAGED_INSTANCES"])
    error_message = "Not Fargate."
  }
}

run "other_services_in_the_cluster" {
  variables {
    capacity_provider       = "gpu"
    more_capacity_providers = ["FARGATE", "FARGATE_SPOT", "gpu"]
  }
  assert {
    condition     = aws_ecs_cluster_capacity_providers.this[0].capacity_providers == toset(["gpu", "FARGATE", "FARGATE_SPOT"])
    error_message = "Each finds its own, and none is there twice."
  }
}

run "gpus_on_instances_of_ones_own" {
  variables {
    capacity_provider      = "gpu"
    capacity_provider_type = "EC2"
    gpus                   = 1
  }
  assert {
    condition     = aws_ecs_task_definition.worker.requires_compatibilities == toset(["EC2"])
    error_message = "Tasks of Managed Instances do not start on others."
  }
  assert {
    condition     = toset([for s in aws_ecs_service.worker.capacity_provider_strategy : s.capacity_provider]) == toset(["gpu"])
    error_message = "They go where the GPUs are."
  }
}

run "a_health_check" {
  variables {
    health_check = { command = ["CMD", "haulage", "health"] }
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].healthCheck.command == ["CMD", "haulage", "health"]
    error_message = "ECS looks after the container."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].healthCheck.startPeriod == 120
    error_message = "Two minutes, unless told otherwise."
  }
}

run "a_health_check_that_waits" {
  variables {
    health_check = { command = ["CMD", "haulage", "health"], start_period = 300 }
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].healthCheck.startPeriod == 300
    error_message = "The start period is that of the variable."
  }
}

run "refused_start_period" {
  command = plan
  variables {
    health_check = { command = ["CMD", "haulage", "health"], start_period = 301 }
  }
  expect_failures = [var.health_check]
}

run "refused_size" {
  command = plan
  variables {
    cpu    = 1024
    memory = 1024
  }
  expect_failures = [aws_ecs_task_definition.worker]
}

run "refused_heartbeat" {
  command = plan
  variables {
    heartbeat_interval = 20
  }
  expect_failures = [aws_ecs_task_definition.worker]
}

run "refused_values" {
  command = plan
  variables {
    name                   = "Jobs"
    image                  = "model"
    gpus                   = 1
    cpu_architecture       = "arm"
    capacity_provider_type = "GPU"
    fargate                = { weight = 0 }
    concurrency            = 0
    health_check           = { command = ["curl", "localhost"] }
    log_retention_days     = 10
    ephemeral_storage_gib  = 20
    desired_count          = -1
  }
  expect_failures = [
    var.name, var.image, var.gpus, var.cpu_architecture, var.capacity_provider_type, var.fargate, var.concurrency,
    var.health_check, var.log_retention_days, var.ephemeral_storage_gib, var.desired_count,
  ]
}

run "through_endpoints_and_nowhere_else" {
  command = plan
  assert {
    condition     = aws_vpc_security_group_egress_rule.endpoints_out[0].referenced_security_group_id == "sg-0123456789abcdef0" && length(aws_vpc_security_group_egress_rule.https_out) == 0
    error_message = "Out goes HTTPS to the endpoints alone."
  }
  assert {
    condition     = length(aws_vpc_security_group_egress_rule.more_out) == 0 && aws_iam_role.consumer.path == "/"
    error_message = "Nothing else unless it is said."
  }
}

run "by_the_routes_of_the_subnets" {
  command = plan
  variables {
    use_vpc_endpoints          = false
    endpoint_security_group_id = null
    assign_public_ip           = true
    security_group_ids         = ["sg-0123456789abcdef2"]
    egress_rules = {
      database = { security_group_id = "sg-0123456789abcdef3", from_port = 5432 }
      files    = { cidr_blocks = ["10.0.0.0/16"], from_port = 2049, to_port = 2050 }
    }
    permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
    iam_path             = "/pipelines/"
  }
  assert {
    condition     = length(aws_vpc_security_group_egress_rule.endpoints_out) + length(aws_vpc_security_group_egress_rule.gateways_out) + length(aws_vpc_security_group_ingress_rule.endpoints_in) == 0
    error_message = "There are no endpoints."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.https_out[0].cidr_ipv4 == "0.0.0.0/0" && aws_vpc_security_group_egress_rule.https_out_ipv6[0].cidr_ipv6 == "::/0" && aws_vpc_security_group_egress_rule.https_out[0].to_port == 443
    error_message = "All that speaks HTTPS can be reached, by IPv6 as well."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.more_out["database"].to_port == 5432 && aws_vpc_security_group_egress_rule.more_out["files 10.0.0.0/16"].to_port == 2050
    error_message = "The rules of one's own have their ports."
  }
  assert {
    condition     = aws_ecs_service.worker.network_configuration[0].assign_public_ip
    error_message = "In a public subnet a task needs an address."
  }
  assert {
    condition     = aws_iam_role.consumer.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary" && aws_iam_role.execution.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary" && aws_iam_role.execution.path == "/pipelines/"
    error_message = "Roles stay within the boundary, under their path."
  }
}

run "refused_networks" {
  command = plan
  variables {
    endpoint_security_group_id = null
    security_group_ids         = ["sg-1", "sg-2", "sg-3", "sg-4", "sg-5"]
    egress_rules = {
      both     = { security_group_id = "sg-0123456789abcdef3", cidr_blocks = ["10.0.0.0/16"], from_port = 443 }
      backward = { cidr_blocks = ["10.0.0.0/16"], from_port = 443, to_port = 80 }
    }
    permissions_boundary = "boundary"
    iam_path             = "pipelines"
  }
  expect_failures = [
    var.endpoint_security_group_id, var.security_group_ids, var.egress_rules, var.permissions_boundary, var.iam_path,
  ]
}

run "refused_ids" {
  command = plan
  variables {
    name                       = "sg-jobs"
    repository_arn             = "model"
    vpc_id                     = "main"
    subnet_ids                 = ["private"]
    endpoint_security_group_id = "endpoints"
    gateway_prefix_list_ids    = []
    capacity_provider          = "arn:aws:ecs:eu-central-1:123456789012:capacity-provider/gpu"
  }
  expect_failures = [
    var.name, var.repository_arn, var.vpc_id, var.subnet_ids, var.endpoint_security_group_id,
    var.gateway_prefix_list_ids, var.capacity_provider,
  ]
}

run "refused_numbers" {
  command = plan
  variables {
    cpu                   = 1024.5
    memory                = 0
    gpus                  = 0.5
    capacity_provider     = "gpu"
    ephemeral_storage_gib = 50
    lease_seconds         = 30000
    heartbeat_interval    = 0
  }
  expect_failures = [
    var.cpu, var.memory, var.gpus, var.ephemeral_storage_gib, var.lease_seconds, var.heartbeat_interval,
  ]
}
