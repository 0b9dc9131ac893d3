# A pipeline: queue, records, tasks that follow the queue, alarms. Any number
# of them stand beside each other in one VPC, on one endpoints stack.

locals {
  named_queues  = [for queue in var.queues : queue if queue != "default"]
  served_queues = length(local.named_queues) == 0 ? [] : distinct(concat(var.queues, ["default"]))

  create_cluster = var.create_cluster != null ? var.create_cluster : var.cluster_arn == null

  # Who gives a repository names it by its URL; who gives none gets one.
  create_repository = var.create_repository != null ? var.create_repository : var.ecr == null
  repository_url    = local.create_repository ? module.repository[0].url : var.ecr
  repository_arn = local.create_repository ? module.repository[0].arn : format(
    "arn:%s:ecr:%s:%s:repository/%s",
    data.aws_partition.current.partition,
    regex("[.-]ecr\\.([a-z0-9-]+)\\.", var.ecr)[0],
    split(".", var.ecr)[0],
    join("/", slice(split("/", var.ecr), 1, length(split("/", var.ecr)))),
  )

  use_vpc_endpoints = var.use_vpc_endpoints != null ? var.use_vpc_endpoints : var.sqs_vpc_endpoint_id != null
  endpoint_security_group_id = var.endpoint_security_group_id != null || !local.use_vpc_endpoints ? (
    var.endpoint_security_group_id
  ) : one(data.aws_vpc_endpoint.sqs[0].security_group_ids)

  create_event_log_policy = var.create_event_log_policy != null ? var.create_event_log_policy : !local.use_vpc_endpoints

  # Autoscaling holds a minimum, and does not bring a service up to it.
  desired_count = (
    var.enable_autoscaling
    ? max(coalesce(var.desired_count, 0), var.service_autoscaling_min_capacity)
    : coalesce(var.desired_count, 1)
  )

  # List prices of Linux on Fargate on demand in us-east-1 ("AWS Fargate
  # Pricing"), by vCPU and GB. What instances cost, only their owner knows.
  fargate_prices = var.cpu_architecture == "ARM64" ? [0.03238, 0.00356] : [0.04048, 0.004445]
  dollars_per_task_hour = (
    var.dollars_per_task_hour != null || var.capacity_provider != null ? var.dollars_per_task_hour : sum([
      local.fargate_prices[0] * var.cpu / 1024,
      local.fargate_prices[1] * var.memory / 1024,
    ])
  )
}

locals {
  more_capacity_providers = flatten([for service in var.more_services :
    service.on_fargate || (service.capacity_provider == null && var.capacity_provider == null)
    ? ["FARGATE", "FARGATE_SPOT"]
    : [service.capacity_provider != null ? service.capacity_provider : var.capacity_provider]
  ])
  # Nobody else starts them where there is no autoscaling.
  more_desired_counts = { for service in var.more_services : service.name => var.enable_autoscaling ? service.min_capacity : max(service.min_capacity, 1) }
  more_sidecars       = { for service in var.more_services : service.name => service.sidecars != null ? service.sidecars : var.sidecars }
  # A worker that is told to use GPUs does not start where there are none.
  more_environments = { for service in var.more_services : service.name => merge(
    { for name, value in var.container_environment : name => value if !(service.on_fargate && name == "HAULAGE_GPUS") },
    service.environment,
  ) }
  # What is scaled: each service with the queue, and what comes before it.
  services = concat(
    [{
      name        = module.worker.service_name
      concurrency = var.concurrency
      min         = var.service_autoscaling_min_capacity
      max         = var.service_autoscaling_max_capacity
    }],
    [for service in var.more_services : {
      name        = module.more_workers[service.name].service_name
      concurrency = coalesce(service.concurrency, var.concurrency)
      min         = service.min_capacity
      max         = service.max_capacity
    }],
  )
  # By names that are known before there are services.
  pairs = { for index, service in local.services : index == 0 ? var.name : "${var.name}-${var.more_services[index - 1].name}" => {
    cluster                 = module.worker.cluster_name
    service                 = service.name
    task_family             = service.name # The worker's module names both alike.
    queue                   = module.queue.name
    queue_url               = module.queue.url
    more_queues             = [for name in local.named_queues : { name = module.queue.named[name].name, url = module.queue.named[name].url }]
    min_tasks               = service.min
    max_tasks               = service.max
    slots_per_task          = service.concurrency
    slots_before            = sum(concat([0], [for before in slice(local.services, 0, index) : before.max * before.concurrency]))
    job_seconds             = var.avg_msg_proc_time_seconds
    target_seconds          = var.avg_msg_proc_time_seconds * var.approx_num_backlog_messages
    scale_in_window_seconds = var.service_autoscaling_scale_in_window_seconds
    scaler                  = var.scaler
    # The dashboard is that of the first service, and knows the Lambda of the pipeline only.
    dashboard = index == 0 && var.enable_dashboard && var.create_scaler
  } }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

data "aws_vpc_endpoint" "sqs" {
  count = local.use_vpc_endpoints ? 1 : 0

  id = var.sqs_vpc_endpoint_id

  lifecycle {
    postcondition {
      condition     = self.vpc_id == var.vpc_id
      error_message = "The endpoint ${var.sqs_vpc_endpoint_id} is in ${self.vpc_id}, and the pipeline in ${var.vpc_id}: give the endpoint of the same VPC."
    }
    postcondition {
      condition     = var.endpoint_security_group_id != null || length(self.security_group_ids) == 1
      error_message = "The endpoint ${var.sqs_vpc_endpoint_id} has ${length(self.security_group_ids)} security groups; say by endpoint_security_group_id which of them all endpoints have."
    }
  }
}

# By name, since the ids of AWS's prefix lists differ between regions.
data "aws_prefix_list" "gateway" {
  for_each = toset(["s3", "dynamodb"])

  name = "com.amazonaws.${data.aws_region.current.region}.${each.value}"
}

module "queue" {
  source = "../modules/queue"

  name                           = var.name
  fifo                           = var.queue_fifo
  visibility_timeout_seconds     = var.queue_visibility_timeout_seconds
  max_receive_count              = var.queue_max_receive_count
  message_retention_seconds      = var.queue_message_retention_seconds
  content_based_deduplication    = var.queue_content_based_deduplication
  deduplication_scope            = var.queue_deduplication_scope
  dlq_message_retention_seconds  = var.dlq_message_retention_seconds
  dlq_visibility_timeout_seconds = var.dlq_visibility_timeout_seconds
  named                          = local.named_queues
  senders                        = var.queue_senders
  kms_key_arn                    = var.kms_key_arn
  tags                           = var.tags
}

module "table" {
  source = "../modules/table"

  name                   = "${var.name}-records"
  point_in_time_recovery = var.dynamodb_point_in_time_recovery_enabled
  deletion_protection    = var.dynamodb_deletion_protection_enabled
  stream                 = var.completion_events != null || var.step_functions != null
  kms_key_arn            = var.kms_key_arn
  tags                   = var.tags
}

module "completion_events" {
  source = "../modules/completion_events"
  count  = var.completion_events == null ? 0 : 1

  name       = var.name
  stream_arn = module.table.stream_arn
  event_bus_arn = var.completion_events.topic_arn != null ? null : coalesce(var.completion_events.event_bus_arn, format(
    "arn:%s:events:%s:%s:event-bus/default",
    data.aws_partition.current.partition, data.aws_region.current.region, data.aws_caller_identity.current.account_id,
  ))
  topic_arn            = var.completion_events.topic_arn
  permissions_boundary = var.permissions_boundary
  iam_path             = var.iam_path
  kms_key_arn          = var.kms_key_arn
  tags                 = var.tags
}

module "task_tokens" {
  source = "../modules/task_tokens"
  count  = var.step_functions == null ? 0 : 1

  name                 = var.name
  stream_arn           = module.table.stream_arn
  heartbeats           = var.step_functions.heartbeats
  state_machine_arns   = var.step_functions.state_machine_arns
  log_retention_days   = var.log_retention_days
  permissions_boundary = var.permissions_boundary
  iam_path             = var.iam_path
  kms_key_arn          = var.kms_key_arn
  tags                 = var.tags
}

# Where none is given.
module "repository" {
  source = "../modules/repository"
  count  = local.create_repository ? 1 : 0

  name           = var.name
  immutable_tags = !var.ecr_mutable_tags
  keep_images    = var.ecr_keep_images
  force_delete   = var.ecr_force_delete
  kms_key_arn    = var.kms_key_arn
  tags           = var.tags
}

module "bucket" {
  source = "../modules/bucket"
  count  = var.payload_bucket ? 1 : 0

  name_prefix   = "${var.name}-payloads"
  force_destroy = var.payload_bucket_force_destroy
  kms_key_arn   = var.kms_key_arn
  tags          = var.tags
}

module "access" {
  source = "../modules/access"

  name        = var.name
  queues      = [for arn in concat([module.queue.arn], values(module.queue.named)[*].arn) : { arn = arn, dlq_arn = module.queue.dlq_arn }]
  table       = { arn = module.table.arn }
  bucket      = var.payload_bucket ? { arn = module.bucket[0].arn } : null
  kms_key_arn = var.kms_key_arn
  iam_path    = var.iam_path
  tags        = var.tags
}

module "worker" {
  source = "../modules/worker"

  name                       = var.name
  image                      = "${local.repository_url}:${var.container_tag}"
  repository_arn             = local.repository_arn
  consume_policy             = module.access.consume_policy
  vpc_id                     = var.vpc_id
  subnet_ids                 = var.subnet_ids
  use_vpc_endpoints          = local.use_vpc_endpoints
  endpoint_security_group_id = local.endpoint_security_group_id
  gateway_prefix_list_ids    = [for list in data.aws_prefix_list.gateway : list.id]
  assign_public_ip           = var.assign_public_ip
  egress_rules               = var.egress_rules
  security_group_ids         = var.security_group_ids
  queue_name                 = module.queue.name
  queues                     = local.served_queues
  table_name                 = module.table.name
  bucket_name                = var.payload_bucket ? module.bucket[0].name : null
  cpu                        = var.cpu
  memory                     = var.memory
  gpus                       = var.gpus
  cpu_architecture           = var.cpu_architecture
  fargate                    = var.fargate
  ephemeral_storage_gib      = var.ephemeral_storage_gib
  capacity_provider          = var.capacity_provider
  capacity_provider_type     = var.capacity_provider_type
  desired_count              = local.desired_count
  concurrency                = var.concurrency
  lease_seconds              = var.heartbeat_visibility_timeout_seconds
  heartbeat_interval         = var.heartbeat_interval
  scale_in_protection        = var.enable_ecs_scalein_protection
  keep_successes             = var.keep_successes
  command                    = var.container_command
  environment                = var.container_environment
  health_check               = var.health_check
  sidecars                   = var.sidecars
  secrets                    = var.container_secrets
  secrets_kms_key_arns       = var.container_secrets_kms_key_arns
  volumes                    = var.volumes
  container                  = var.container
  container_definitions      = var.container_definitions
  enable_execute_command     = var.enable_execute_command
  create_cluster             = local.create_cluster
  cluster_arn                = var.cluster_arn
  more_capacity_providers    = local.more_capacity_providers
  rollback                   = var.rollback
  wait_for_steady_state      = var.wait_for_steady_state
  log_retention_days         = var.log_retention_days
  permissions_boundary       = var.permissions_boundary
  iam_path                   = var.iam_path
  kms_key_arn                = var.kms_key_arn
  tags                       = var.tags
}

module "more_workers" {
  source   = "../modules/worker"
  for_each = { for service in var.more_services : service.name => service }

  name                       = "${var.name}-${each.key}"
  image                      = "${local.repository_url}:${coalesce(each.value.container_tag, var.container_tag)}"
  repository_arn             = local.repository_arn
  consume_policy             = module.access.consume_policy
  create_cluster             = false
  cluster_arn                = module.worker.cluster_arn
  more_capacity_providers    = []
  vpc_id                     = var.vpc_id
  subnet_ids                 = var.subnet_ids
  use_vpc_endpoints          = local.use_vpc_endpoints
  endpoint_security_group_id = local.endpoint_security_group_id
  gateway_prefix_list_ids    = [for list in data.aws_prefix_list.gateway : list.id]
  assign_public_ip           = var.assign_public_ip
  egress_rules               = var.egress_rules
  security_group_ids         = var.security_group_ids
  queue_name                 = module.queue.name
  queues                     = local.served_queues
  table_name                 = module.table.name
  bucket_name                = var.payload_bucket ? module.bucket[0].name : null
  cpu                        = coalesce(each.value.cpu, var.cpu)
  memory                     = coalesce(each.value.memory, var.memory)
  gpus                       = each.value.on_fargate ? 0 : coalesce(each.value.gpus, var.gpus)
  cpu_architecture           = coalesce(each.value.cpu_architecture, var.cpu_architecture)
  fargate                    = each.value.fargate != null ? each.value.fargate : var.fargate
  ephemeral_storage_gib      = each.value.ephemeral_storage_gib
  capacity_provider          = each.value.on_fargate ? null : try(coalesce(each.value.capacity_provider, var.capacity_provider), null)
  capacity_provider_type     = coalesce(each.value.capacity_provider_type, var.capacity_provider_type)
  desired_count              = local.more_desired_counts[each.key]
  concurrency                = coalesce(each.value.concurrency, var.concurrency)
  lease_seconds              = var.heartbeat_visibility_timeout_seconds
  heartbeat_interval         = var.heartbeat_interval
  scale_in_protection        = var.enable_ecs_scalein_protection
  keep_successes             = var.keep_successes
  command                    = each.value.command != null ? each.value.command : var.container_command
  environment                = local.more_environments[each.key]
  health_check               = var.health_check
  sidecars                   = local.more_sidecars[each.key]
  secrets                    = var.container_secrets
  secrets_kms_key_arns       = var.container_secrets_kms_key_arns
  volumes                    = each.value.volumes != null ? each.value.volumes : var.volumes
  container                  = each.value.container != null ? each.value.container : var.container
  # Of the containers that it has.
  container_definitions  = { for name, parts in var.container_definitions : name => parts if contains(concat(["worker"], keys(local.more_sidecars[each.key])), name) }
  enable_execute_command = var.enable_execute_command
  rollback               = var.rollback
  wait_for_steady_state  = var.wait_for_steady_state
  log_retention_days     = var.log_retention_days
  permissions_boundary   = var.permissions_boundary
  iam_path               = var.iam_path
  kms_key_arn            = var.kms_key_arn
  tags                   = var.tags
}

module "scaler" {
  source = "../modules/scaler"
  count  = var.enable_autoscaling && var.create_scaler ? 1 : 0

  name                 = var.name
  pairs                = local.pairs
  lambda_package       = var.lambda_package
  lambda_architecture  = var.lambda_architecture
  invocation_interval  = var.compute_queue_backlog_lambda_invocation_interval
  samples_per_minute   = var.lambda_samples_per_minute
  alarms               = var.enable_alarms
  alarm_topic_arn      = var.alarms.topic_arn
  log_retention_days   = var.log_retention_days
  permissions_boundary = var.permissions_boundary
  iam_path             = var.iam_path
  kms_key_arn          = var.kms_key_arn
  tags                 = var.tags
}

module "scaling_alarms" {
  source   = "../modules/scaling_alarms"
  for_each = var.enable_autoscaling && var.scaler == "alarms" ? local.pairs : {}

  name                    = each.key
  cluster_name            = each.value.cluster
  service_name            = each.value.service
  queue_name              = each.value.queue
  min_capacity            = each.value.min_tasks
  max_capacity            = each.value.max_tasks
  scale_in_window_seconds = each.value.scale_in_window_seconds
  tags                    = var.tags
}

# The endpoints stack has one for all pipelines on it.
module "event_logs" {
  source = "../modules/event_logs"
  count  = var.enable_alarms && local.create_event_log_policy ? 1 : 0

  policy_name = "${var.name}-events"
}

module "alarms" {
  source = "../modules/alarms"
  count  = var.enable_alarms ? 1 : 0

  name                      = var.name
  cluster                   = { name = module.worker.cluster_name, arn = module.worker.cluster_arn, service_names = local.services[*].name }
  queue_name                = module.queue.name
  more_queues               = { for name, queue in module.queue.named : name => queue.name }
  dlq_name                  = module.queue.dlq_name
  table_name                = module.table.name
  lambda_name               = one(module.scaler[*].lambda_name)
  topic_arn                 = var.alarms.topic_arn
  oldest_job_seconds        = var.alarms.oldest_job_seconds
  message_retention_seconds = var.queue_message_retention_seconds
  no_progress_minutes       = var.alarms.no_progress_minutes
  task_failures             = var.alarms.task_failures
  dollars_per_task_hour     = local.dollars_per_task_hour
  dashboard                 = var.enable_dashboard
  log_retention_days        = var.log_retention_days
  kms_key_arn               = var.kms_key_arn
  tags                      = var.tags
}
