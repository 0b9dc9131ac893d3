# One Lambda that scales many services: those of pipelines (create_scaler = false,
# and the output scaler_pairs), and any other that works off a queue.

module "scaler" {
  source = "../modules/scaler"

  name                 = var.name
  pairs                = var.pairs
  lambda_package       = var.lambda_package
  lambda_architecture  = var.lambda_architecture
  invocation_interval  = "rate(1 minute)"
  samples_per_minute   = var.samples_per_minute
  alarms               = var.enable_alarms
  alarm_topic_arn      = var.alarm_topic_arn
  log_retention_days   = var.log_retention_days
  permissions_boundary = var.permissions_boundary
  iam_path             = var.iam_path
  kms_key_arn          = var.kms_key_arn
  tags                 = var.tags
}

# For services without the Lambda's right to change them.
module "scaling_alarms" {
  source   = "../modules/scaling_alarms"
  for_each = { for name, pair in var.pairs : name => pair if var.make_scaling_alarms && pair.scaler == "alarms" }

  name                    = "${var.name}-${each.key}"
  cluster_name            = each.value.cluster
  service_name            = each.value.service
  queue_name              = each.value.queue
  min_capacity            = each.value.min_tasks
  max_capacity            = each.value.max_tasks
  scale_in_window_seconds = each.value.scale_in_window_seconds
  tags                    = var.tags
}
