# The tasks that work off the queue: cluster, task definition, service, logs.

locals {
  on_fargate = var.capacity_provider == null
  # What Fargate has ("Amazon ECS task CPU and memory"): from, to and step, in MiB.
  fargate_memory = {
    256   = [512, 2048, 512]
    512   = [1024, 4096, 1024]
    1024  = [2048, 8192, 1024]
    2048  = [4096, 16384, 1024]
    4096  = [8192, 30720, 1024]
    8192  = [16384, 61440, 4096]
    16384 = [32768, 122880, 8192]
  }
  memory_range = lookup(local.fargate_memory, var.cpu, [0, 0, 1])
  fits_fargate = (
    var.memory >= local.memory_range[0] && var.memory <= local.memory_range[1] &&
    (var.memory % local.memory_range[2] == 0) && !(var.cpu == 256 && var.memory == 1536)
  )

  strategy = local.on_fargate ? concat(
    var.fargate.weight > 0 || var.fargate.base > 0 ? [
      { capacity_provider = "FARGATE", base = var.fargate.base, weight = var.fargate.weight }
    ] : [],
    var.fargate.spot_weight > 0 ? [
      { capacity_provider = "FARGATE_SPOT", base = 0, weight = var.fargate.spot_weight }
    ] : [],
  ) : [{ capacity_provider = var.capacity_provider, base = 0, weight = 1 }]

  url = join("", [
    "sqs://${var.queue_name}?table=${var.table_name}&region=${data.aws_region.current.region}",
    var.bucket_name == null ? "" : "&bucket=${var.bucket_name}&bucket_owner=${data.aws_caller_identity.current.account_id}",
    "&ecs_protection=${var.scale_in_protection ? "require" : "off"}",
    var.keep_successes ? "&keep_successes=true" : "",
  ])

  # With processes or GPUs, these are the slots, and a worker refuses a concurrency besides.
  # To a worker, a variable that is empty is one that is not there.
  in_children = length(setintersection(
    concat([for name, value in var.environment : name if value != ""], coalesce(var.command, [])),
    ["HAULAGE_GPUS", "HAULAGE_PROCESSES", "--gpus", "--processes"],
  )) > 0

  environment = merge({
    HAULAGE_URL                = local.url
    HAULAGE_LEASE              = "${var.lease_seconds}s"
    HAULAGE_HEARTBEAT_INTERVAL = "${var.heartbeat_interval}s"
    # A little less than stopTimeout, so that jobs are given back in time.
    HAULAGE_SHUTDOWN_GRACE_PERIOD = "110s"
    HAULAGE_LOG_FORMAT            = "json"
    # Metrics, as lines of the log, under the names that the scaling looks for.
    HAULAGE_CLUSTER_NAME = local.cluster_name
    HAULAGE_SERVICE_NAME = var.name
    # For the health check, and for a sidecar that scrapes: the containers of a
    # task share the loopback address, and nobody else is let in. The port is not
    # 8080, which many model servers have.
    HAULAGE_HTTP_LISTEN = "127.0.0.1:9464"
    # Fargate sets it; on instances nobody does.
    AWS_REGION = data.aws_region.current.region
    # For programs that make their own consumer.
    QUEUE_NAME = var.queue_name
    TABLE_NAME = var.table_name
    }, local.in_children ? {} : {
    HAULAGE_CONCURRENCY = tostring(var.concurrency)
    }, length(var.queues) == 0 ? {} : {
    HAULAGE_QUEUE = join(",", var.queues)
  }, var.environment)

  cluster_arn  = var.create_cluster ? aws_ecs_cluster.this[0].arn : var.cluster_arn
  cluster_name = var.create_cluster ? aws_ecs_cluster.this[0].name : split("/", var.cluster_arn)[1]
}

data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

resource "aws_cloudwatch_log_group" "worker" {
  name              = "/haulage/${var.name}/worker"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "aws_ecs_cluster" "this" {
  count = var.create_cluster ? 1 : 0

  name = var.name
  tags = var.tags

  setting {
    name = "containerInsights"
    # What scaling and alarms need is published by Haulage.
    value = "disabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  count = var.create_cluster ? 1 : 0

  cluster_name = aws_ecs_cluster.this[0].name
  capacity_providers = distinct(concat(
    local.on_fargate ? ["FARGATE", "FARGATE_SPOT"] : [var.capacity_provider], var.more_capacity_providers,
  ))
}

resource "aws_ecs_task_definition" "worker" {
  family                   = var.name
  requires_compatibilities = [local.on_fargate ? "FARGATE" : var.capacity_provider_type]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.consumer.arn
  container_definitions    = jsonencode(local.containers)
  tags                     = var.tags

  dynamic "ephemeral_storage" {
    for_each = var.ephemeral_storage_gib[*]

    content {
      size_in_gib = ephemeral_storage.value
    }
  }

  dynamic "volume" {
    for_each = var.volumes

    content {
      name      = volume.key
      host_path = volume.value.host_path

      dynamic "efs_volume_configuration" {
        for_each = volume.value.efs[*]

        content {
          file_system_id     = split("/", efs_volume_configuration.value.file_system_arn)[1]
          root_directory     = efs_volume_configuration.value.root_directory
          transit_encryption = "ENABLED"

          authorization_config {
            access_point_id = try(split("/", efs_volume_configuration.value.access_point_arn)[1], null)
            iam             = "ENABLED"
          }
        }
      }
    }
  }

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  lifecycle {
    precondition {
      condition     = !local.on_fargate || local.fits_fargate
      error_message = "Fargate has no task of ${var.cpu} CPU units with ${var.memory} MiB. One vCPU (1024) goes with 2048 to 8192 MiB in steps of 1024, two with 4096 to 16384, four with 8192 to 30720; see \"Amazon ECS task CPU and memory\"."
    }
    precondition {
      condition     = var.heartbeat_interval * 2 <= var.lease_seconds
      error_message = "A heartbeat every ${var.heartbeat_interval} s is too late for a lease of ${var.lease_seconds} s: let two fit into it."
    }
  }
}

resource "aws_ecs_service" "worker" {
  name                               = var.name
  cluster                            = local.cluster_arn
  task_definition                    = aws_ecs_task_definition.worker.arn
  desired_count                      = var.desired_count
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  enable_ecs_managed_tags            = true
  enable_execute_command             = var.enable_execute_command
  propagate_tags                     = "SERVICE"
  wait_for_steady_state              = var.wait_for_steady_state
  # ECS takes another capacity provider strategy with a new deployment only.
  force_new_deployment = true
  # It would stop tasks in one zone to start them in another: nothing is gained
  # by that where no requests are balanced.
  availability_zone_rebalancing = "DISABLED"
  tags                          = var.tags

  # With launch_type, it would not be looked at.
  dynamic "capacity_provider_strategy" {
    for_each = local.strategy

    content {
      capacity_provider = capacity_provider_strategy.value.capacity_provider
      base              = capacity_provider_strategy.value.base
      weight            = capacity_provider_strategy.value.weight
    }
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = concat([aws_security_group.worker.id], var.security_group_ids)
    assign_public_ip = var.assign_public_ip
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = var.rollback
  }

  lifecycle {
    # Autoscaling changes it, or who has none by hand: an apply must not take
    # that back.
    ignore_changes = [desired_count]
  }

  # Without its permissions, or the way to the endpoints, a task would fail.
  depends_on = [
    aws_ecs_cluster_capacity_providers.this,
    aws_iam_role_policy.consumer,
    aws_iam_role_policy.execution,
    aws_vpc_security_group_ingress_rule.endpoints_in,
    aws_vpc_security_group_egress_rule.endpoints_out,
    aws_vpc_security_group_egress_rule.gateways_out,
  ]
}
