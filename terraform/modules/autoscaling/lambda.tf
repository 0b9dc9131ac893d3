# The program that looks at the queue, once a minute, and scales the service.

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

    # Not for a function of another account.
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
    sid       = "Queue"
    actions   = ["sqs:GetQueueAttributes"]
    resources = [var.queue.arn]
  }

  statement {
    sid       = "Service"
    actions   = ["ecs:DescribeServices"]
    resources = [var.service_arn]
  }

  # The keys of UpdateService say which cluster it is in, and nothing of the count.
  dynamic "statement" {
    for_each = var.scaler == "direct" ? [1] : []

    content {
      sid       = "Scale"
      actions   = ["ecs:UpdateService"]
      resources = [var.service_arn]

      condition {
        test     = "ArnEquals"
        variable = "ecs:cluster"
        values   = [local.cluster_arn]
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
  function_name    = "${var.name}-autoscale"
  description      = "Scales ${var.service_name} by ${var.queue.name}"
  role             = aws_iam_role.lambda.arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.lambda_architecture]
  filename         = var.lambda_package
  source_code_hash = filebase64sha256(var.lambda_package)
  memory_size      = 128
  # It ends within its minute, so one run does not meet the next.
  timeout = 59
  tags    = var.tags

  depends_on = [aws_cloudwatch_log_group.lambda, aws_iam_role_policy.lambda]
}

resource "aws_cloudwatch_event_rule" "schedule" {
  name                = "${var.name}-autoscale"
  description         = "Runs the Lambda ${var.name}-autoscale"
  schedule_expression = var.invocation_interval
  tags                = var.tags
}

resource "aws_cloudwatch_event_target" "lambda" {
  rule = aws_cloudwatch_event_rule.schedule.name
  arn  = aws_lambda_function.autoscale.arn

  # More pairs of a queue and a service can be served by one Lambda.
  input = jsonencode({
    samples_per_minute = coalesce(var.samples_per_minute, var.scaler == "direct" ? 6 : 4)
    pairs = [{
      cluster        = var.cluster_name
      service        = var.service_name
      queue_name     = var.queue.name
      queue_url      = var.queue.url
      slots_per_task = var.slots_per_task
      job_seconds    = var.job_seconds
      target_seconds = var.backlog_target_seconds
      direct         = local.direct
    }]
  })
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
