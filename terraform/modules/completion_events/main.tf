# The end of each job as an event: from the stream of the table, through a pipe, to
# EventBridge or SNS. Nothing is paid for while no job ends.

locals {
  pipe_name = "${var.name}-completion-events"

  ended = ["success", "error", "cancelled"]
  # The record of a job, and not what else is in the table.
  job = { status = { S = local.ended }, queue = { S = [{ exists = true }] } }
  filters = [
    # It was not over before. Whatever is written after its end is no end.
    { dynamodb = { NewImage = local.job, OldImage = { status = { S = [{ "anything-but" = local.ended }] } } } },
    # A message that is no job is recorded as an error at once.
    { eventName = ["INSERT"], dynamodb = { NewImage = local.job } },
  ]

  # A value that is not there becomes "".
  record = "$.dynamodb.NewImage"
  detail = join(", ", concat(
    [for name, path in { job_id = "message_id.S", status = "status.S", queue = "queue.S", request_id = "request_id.S", error_kind = "error_kind.S" } :
      "\"${name}\": \"<${local.record}.${path}>\""
    ],
    ["\"finished_at_us\": <${local.record}.finished_at.N>"],
  ))
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["pipes.amazonaws.com"]
    }

    # Not for another pipe, nor one of another account ("Amazon EventBridge User
    # Guide", cross-service confused deputy prevention in pipes).
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = ["arn:${data.aws_partition.current.partition}:pipes:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:pipe/${local.pipe_name}"]
    }
  }
}

resource "aws_iam_role" "pipe" {
  name                 = "${var.name}-events"
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  tags                 = var.tags
}

data "aws_iam_policy_document" "pipe" {
  statement {
    sid       = "Read"
    actions   = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"]
    resources = [var.stream_arn]
  }

  statement {
    sid       = "Tell"
    actions   = [var.topic_arn == null ? "events:PutEvents" : "sns:Publish"]
    resources = [var.topic_arn == null ? var.event_bus_arn : var.topic_arn]
  }

  dynamic "statement" {
    for_each = var.kms_key_arn[*]

    content {
      sid       = "Key"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "pipe" {
  name   = "tell"
  role   = aws_iam_role.pipe.id
  policy = data.aws_iam_policy_document.pipe.json
}

resource "aws_pipes_pipe" "this" {
  name        = local.pipe_name
  description = "Tells of each job of ${var.name} that ends"
  role_arn    = aws_iam_role.pipe.arn
  source      = var.stream_arn
  target      = var.topic_arn == null ? var.event_bus_arn : var.topic_arn
  tags        = var.tags

  source_parameters {
    dynamodb_stream_parameters {
      starting_position = "LATEST"
      batch_size        = 10
      # A target that is away holds up what follows, for as long as the stream keeps
      # it: a day. One record that it refuses does not, as others of its batch go on.
      on_partial_batch_item_failure = "AUTOMATIC_BISECT"
      maximum_retry_attempts        = 20
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

  target_parameters {
    input_template = "{${local.detail}}"

    dynamic "eventbridge_event_bus_parameters" {
      for_each = var.topic_arn == null ? [1] : []

      content {
        source      = "haulage"
        detail_type = "Job ended"
      }
    }
  }

  depends_on = [aws_iam_role_policy.pipe]
}
