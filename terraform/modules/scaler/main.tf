# The program that looks at queues, some times a minute, and scales the services
# that work them off: docs/scaling.md says how.

locals {
  namespace  = "Haulage"
  account_id = data.aws_caller_identity.current.account_id
  arn        = "arn:${data.aws_partition.current.partition}:%s:${data.aws_region.current.region}:${local.account_id}:%s"
  names      = sort(keys(var.pairs))
  direct     = [for name in local.names : var.pairs[name] if var.pairs[name].scaler == "direct"]

  queue_arns = distinct(flatten([for name in local.names : [
    for queue in concat([var.pairs[name].queue], var.pairs[name].more_queues[*].name) : format(local.arn, "sqs", queue)
  ]]))
  queue_url = "https://sqs.${data.aws_region.current.region}.${data.aws_partition.current.dns_suffix}/${local.account_id}/%s"
  # Of services that alarms scale.
  looked_at_arns = [for name in local.names : format(local.arn, "ecs", "service/${var.pairs[name].cluster}/${var.pairs[name].service}") if var.pairs[name].scaler != "direct"]
  # The services that it scales itself: with the families of their tasks where a pair names one,
  # and the others. The list is one for all, as the policy has no room for 50 statements.
  families = distinct([for pair in local.direct : pair.task_family if pair.task_family != null])
  scaled = { for sid, arns in {
    Scale    = [for pair in local.direct : format(local.arn, "ecs", "service/${pair.cluster}/${pair.service}") if pair.task_family != null]
    ScaleAny = [for pair in local.direct : format(local.arn, "ecs", "service/${pair.cluster}/${pair.service}") if pair.task_family == null]
  } : sid => arns if length(arns) > 0 }

  # Within which the Lambda sets the count itself.
  bounds = merge({ "" = null }, { for pair in local.direct : "${pair.cluster}/${pair.service}" => {
    min_tasks               = pair.min_tasks
    max_tasks               = pair.max_tasks
    scale_in_window_seconds = pair.scale_in_window_seconds
  } })

  # EventBridge sends 8,192 characters at most ("PutTargets"), and one rule has
  # five targets at most. Each is a run of its own.
  runs = { for index, names in chunklist(local.names, 20) : format("lambda%s", index == 0 ? "" : index) => [for name in names : var.pairs[name]] }
}

data "aws_partition" "current" {}

data "aws_region" "current" {}

resource "aws_cloudwatch_log_group" "lambda" {
  name              = "/aws/lambda/${var.name}-autoscale"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

data "aws_caller_identity" "current" {}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }

    # Not for a function of another account. Whether Lambda names the function, too
    # (aws:SourceArn), when it assumes a role, its pages do not say, and a condition
    # on what it does not send would stop the Lambda.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_iam_role" "lambda" {
  name                 = "${var.name}-autoscale"
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  tags                 = var.tags
}

data "aws_iam_policy_document" "lambda" {
  statement {
    sid       = "Queues"
    actions   = ["sqs:GetQueueAttributes"]
    resources = local.queue_arns
  }

  dynamic "statement" {
    for_each = length(local.looked_at_arns) > 0 ? [1] : []

    content {
      sid       = "Look"
      actions   = ["ecs:DescribeServices"]
      resources = local.looked_at_arns
    }
  }

  # UpdateService has no key for the count, but for most of what else it changes
  # ("Service Authorization Reference", Amazon ECS). Whether a key is sent with calls
  # that do not name it, no page says, so no condition wants one absent. Tasks of
  # other families are refused in any case.
  dynamic "statement" {
    for_each = local.scaled

    content {
      sid       = statement.key
      actions   = ["ecs:DescribeServices", "ecs:UpdateService"]
      resources = statement.value

      dynamic "condition" {
        for_each = statement.key == "Scale" ? [1] : []

        content {
          test     = "ArnLikeIfExists"
          variable = "ecs:task-definition"
          values   = [for family in local.families : format(local.arn, "ecs", "task-definition/${family}:*")]
        }
      }
    }
  }

  # Both know no resource; what is written is held to one namespace.
  statement {
    sid       = "ReadMeasurements"
    actions   = ["cloudwatch:GetMetricData"]
    resources = ["*"]
  }

  statement {
    sid       = "PutMetrics"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = [local.namespace]
    }
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.lambda.arn}:*"]
  }
}

resource "aws_iam_role_policy" "lambda" {
  name   = "autoscale"
  role   = aws_iam_role.lambda.id
  policy = data.aws_iam_policy_document.lambda.json
}

resource "aws_lambda_function" "autoscale" {
  function_name     = "${var.name}-autoscale"
  description       = "Scales ${length(var.pairs) == 1 ? values(var.pairs)[0].service : "${length(var.pairs)} services"} by their queues"
  role              = aws_iam_role.lambda.arn
  runtime           = "provided.al2023"
  handler           = "bootstrap"
  architectures     = [var.lambda_architecture]
  filename          = local.file
  s3_bucket         = var.lambda_package.s3_bucket
  s3_key            = var.lambda_package.s3_key
  s3_object_version = var.lambda_package.s3_object_version
  source_code_hash  = local.hash
  memory_size       = 128
  # It ends within its minute, so one run does not meet the next.
  timeout = 59
  tags    = var.tags

  depends_on = [aws_cloudwatch_log_group.lambda, aws_iam_role_policy.lambda, terraform_data.download]

  lifecycle {
    precondition {
      condition     = var.lambda_package.path == null || fileexists(coalesce(var.lambda_package.path, "-"))
      error_message = "There is no file at the path of lambda_package; it is the zip of the scaling Lambda, which `make lambda` builds."
    }
  }
}

resource "aws_cloudwatch_event_rule" "schedule" {
  name                = "${var.name}-autoscale"
  description         = "Runs the Lambda ${var.name}-autoscale"
  schedule_expression = var.invocation_interval
  tags                = var.tags
}

resource "aws_cloudwatch_event_target" "lambda" {
  for_each = local.runs

  rule      = aws_cloudwatch_event_rule.schedule.name
  target_id = each.key
  arn       = aws_lambda_function.autoscale.arn

  input = jsonencode({
    samples_per_minute = coalesce(var.samples_per_minute, length(local.direct) > 0 ? 6 : 4)
    pairs = [for pair in each.value : {
      cluster         = pair.cluster
      service         = pair.service
      queue_name      = pair.queue
      queue_url       = coalesce(pair.queue_url, format(local.queue_url, pair.queue))
      more_queue_urls = [for queue in pair.more_queues : coalesce(queue.url, format(local.queue_url, queue.name))]
      slots_per_task  = pair.slots_per_task
      slots_before    = pair.slots_before
      job_seconds     = pair.job_seconds
      target_seconds  = pair.target_seconds
      dashboard       = pair.dashboard
      direct          = local.bounds[pair.scaler == "direct" ? "${pair.cluster}/${pair.service}" : ""]
    }]
  })

  lifecycle {
    postcondition {
      condition     = length(self.input) <= 8192
      error_message = "An event has 8,192 characters at most, and the names of these pairs make ${length(self.input)}: leave some of them to another scaler."
    }
  }
}

resource "aws_lambda_permission" "schedule" {
  statement_id  = "schedule"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.autoscale.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.schedule.arn
}

# What comes late is of no use: neither retries nor old events.
resource "aws_lambda_function_event_invoke_config" "autoscale" {
  function_name                = aws_lambda_function.autoscale.function_name
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = 60
}
