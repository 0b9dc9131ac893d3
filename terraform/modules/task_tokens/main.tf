# Step Functions that wait for jobs: from the stream of the table, through a pipe, to a
# state machine that answers the task token in a job's metadata. It takes no code in the
# workers, and tells of each end that was recorded, whoever recorded it.

locals {
  # Of the pipe, and of the state machine.
  name  = "${var.name}-task-tokens"
  place = "${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}"

  ended = ["success", "error", "cancelled"]
  # The record of a job for which a state waits.
  job = { queue = { S = [{ exists = true }] }, task_token = { S = [{ exists = true }] } }
  end = merge(local.job, { status = { S = local.ended } })
  filters = concat(
    [
      # It was not over before. Whatever is written after its end is no end.
      { dynamodb = { NewImage = local.end, OldImage = { status = { S = [{ "anything-but" = local.ended }] } } } },
      # A message that is no job is recorded as an error at once.
      { eventName = ["INSERT"], dynamodb = { NewImage = local.end } },
    ],
    # Its claim, and each heartbeat of its worker.
    var.heartbeats ? [{ dynamodb = { NewImage = merge(local.job, { status = { S = ["in_progress"] } }) } }] : [],
  )
  here               = "${data.aws_partition.current.partition}:states:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}"
  state_machine_arns = var.state_machine_arns != null ? var.state_machine_arns : ["arn:${local.here}:stateMachine:*"]
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

data "aws_iam_policy_document" "assume" {
  for_each = {
    pipe   = { service = "pipes.amazonaws.com", source = "pipes:${local.place}:pipe/${local.name}" }
    states = { service = "states.amazonaws.com", source = "states:${local.place}:stateMachine:*" }
  }

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = [each.value.service]
    }

    # Not for another pipe, nor for any state machine of another account ("AWS Step
    # Functions Developer Guide", preventing cross-service confused deputy issues).
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${data.aws_partition.current.partition}:${each.value.source}"]
    }
  }
}

resource "aws_iam_role" "states" {
  name                 = "${var.name}-task-tokens"
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary
  assume_role_policy   = data.aws_iam_policy_document.assume["states"].json
  tags                 = var.tags
}

data "aws_iam_policy_document" "states" {
  statement {
    sid       = "Answer"
    actions   = ["states:SendTaskFailure", "states:SendTaskHeartbeat", "states:SendTaskSuccess"]
    resources = local.state_machine_arns
  }

  # What delivers logs knows no resource (Step Functions Developer Guide, "Using
  # CloudWatch Logs to log execution history").
  statement {
    sid = "Logs"
    actions = [
      "logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies",
      "logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "states" {
  name   = "answer"
  role   = aws_iam_role.states.id
  policy = data.aws_iam_policy_document.states.json
}

# What could not be told, and why. Nothing of the jobs is in it.
resource "aws_cloudwatch_log_group" "states" {
  name              = "/aws/vendedlogs/states/${var.name}-task-tokens"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "aws_sfn_state_machine" "this" {
  name     = local.name
  type     = "EXPRESS"
  role_arn = aws_iam_role.states.arn
  definition = templatefile("${path.module}/definition.json", {
    partition = data.aws_partition.current.partition
  })
  tags = var.tags

  logging_configuration {
    level                  = "ERROR"
    include_execution_data = false
    log_destination        = "${aws_cloudwatch_log_group.states.arn}:*"
  }

  depends_on = [aws_iam_role_policy.states]
}

resource "aws_iam_role" "pipe" {
  name                 = "${var.name}-task-tokens-pipe"
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary
  assume_role_policy   = data.aws_iam_policy_document.assume["pipe"].json
  tags                 = var.tags
}

data "aws_iam_policy_document" "pipe" {
  statement {
    sid       = "Read"
    actions   = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"]
    resources = [var.stream_arn]
  }

  statement {
    sid       = "Start"
    actions   = ["states:StartSyncExecution"]
    resources = [aws_sfn_state_machine.this.arn]
  }

  dynamic "statement" {
    for_each = var.kms_key_arn[*]

    content {
      sid       = "Key"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "pipe" {
  name   = "start"
  role   = aws_iam_role.pipe.id
  policy = data.aws_iam_policy_document.pipe.json
}

resource "aws_pipes_pipe" "this" {
  name        = local.name
  description = "Tells Step Functions how the jobs of ${var.name} go that they wait for"
  role_arn    = aws_iam_role.pipe.arn
  source      = var.stream_arn
  target      = aws_sfn_state_machine.this.arn
  tags        = var.tags

  source_parameters {
    dynamodb_stream_parameters {
      starting_position = "LATEST"
      # One record, one execution: so one that fails is tried again on its own. Up to ten
      # of a shard are under way at a time, those of one job in their order.
      batch_size             = 1
      parallelization_factor = 10
      maximum_retry_attempts = 20
    }

    filter_criteria {
      dynamic "filter" {
        for_each = local.filters

        content {
          pattern = jsonencode(filter.value)
        }
      }
    }
  }

  # The record goes as it is: a template would put results and errors into JSON without
  # escaping them.
  target_parameters {
    step_function_state_machine_parameters {
      # It waits, so an execution that failed is tried again.
      invocation_type = "REQUEST_RESPONSE"
    }
  }

  depends_on = [aws_iam_role_policy.pipe]
}
