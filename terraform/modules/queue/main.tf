# The queue of jobs and its dead-letter queue.

locals {
  suffix = var.fifo ? ".fifo" : ""
  # 1 MiB, the most that there is; larger bodies go to the bucket. The same for
  # both, as each dead letter is copied as it is.
  max_message_size = 1048576
  # For how long SQS uses a data key again: each is a call of KMS, which is paid for.
  data_key_reuse_seconds = 3600
  queues = merge(
    { jobs = aws_sqs_queue.jobs, dead_letters = aws_sqs_queue.dead_letters },
    { for name, queue in aws_sqs_queue.named : "named ${name}" => queue },
  )
  # Who may send to each of them, and the other accounts whose principals may.
  senders = { for place in concat(["jobs", "dead_letters"], [for name in var.named : "named ${name}"]) : place => {
    for name, sender in var.senders : name => sender
    if contains([for queue in sender.queues : queue == "default" ? "jobs" : "named ${queue}"], place)
  } }
  sender_accounts = { for place, senders in local.senders : place => distinct(flatten([
    for sender in values(senders) : [for arn in sender.principal_arns : split(":", arn)[4]] if sender.service == null
  ])) }
}

resource "aws_sqs_queue" "dead_letters" {
  # The dead-letter queue of a FIFO queue is FIFO (SQS Developer Guide).
  name                       = "${var.name}-dlq${local.suffix}"
  fifo_queue                 = var.fifo
  message_retention_seconds  = var.dlq_message_retention_seconds
  visibility_timeout_seconds = var.dlq_visibility_timeout_seconds
  max_message_size           = local.max_message_size
  sqs_managed_sse_enabled    = var.kms_key_arn == null ? true : null
  kms_master_key_id          = var.kms_key_arn

  kms_data_key_reuse_period_seconds = var.kms_key_arn == null ? null : local.data_key_reuse_seconds

  tags = var.tags
}

resource "aws_sqs_queue" "jobs" {
  name                        = "${var.name}${local.suffix}"
  fifo_queue                  = var.fifo
  content_based_deduplication = var.fifo ? var.content_based_deduplication : null
  deduplication_scope         = var.fifo ? var.deduplication_scope : null
  # perMessageGroupId goes with messageGroup only.
  fifo_throughput_limit = var.fifo ? (
    var.deduplication_scope == "messageGroup" ? "perMessageGroupId" : "perQueue"
  ) : null
  visibility_timeout_seconds = var.visibility_timeout_seconds
  message_retention_seconds  = var.message_retention_seconds
  # A receive that says nothing else waits, rather than being paid for in vain.
  receive_wait_time_seconds = 20
  max_message_size          = local.max_message_size
  sqs_managed_sse_enabled   = var.kms_key_arn == null ? true : null
  kms_master_key_id         = var.kms_key_arn

  kms_data_key_reuse_period_seconds = var.kms_key_arn == null ? null : local.data_key_reuse_seconds

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = var.max_receive_count
  })
  tags = var.tags
}

# The named queues of the same store, whose names say whose they are (docs/queues.md).
resource "aws_sqs_queue" "named" {
  for_each = toset(var.named)

  name                        = "${var.name}--${each.value}${local.suffix}"
  fifo_queue                  = var.fifo
  content_based_deduplication = var.fifo ? var.content_based_deduplication : null
  deduplication_scope         = var.fifo ? var.deduplication_scope : null
  # perMessageGroupId goes with messageGroup only.
  fifo_throughput_limit = var.fifo ? (
    var.deduplication_scope == "messageGroup" ? "perMessageGroupId" : "perQueue"
  ) : null
  visibility_timeout_seconds = var.visibility_timeout_seconds
  message_retention_seconds  = var.message_retention_seconds
  # A receive that says nothing else waits, rather than being paid for in vain.
  receive_wait_time_seconds = 20
  max_message_size          = local.max_message_size
  sqs_managed_sse_enabled   = var.kms_key_arn == null ? true : null
  kms_master_key_id         = var.kms_key_arn

  kms_data_key_reuse_period_seconds = var.kms_key_arn == null ? null : local.data_key_reuse_seconds

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = var.max_receive_count
  })
  tags = var.tags
}

# Only these queues may use the dead-letter queue.
resource "aws_sqs_queue_redrive_allow_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = concat([aws_sqs_queue.jobs.arn], [for name in sort(var.named) : aws_sqs_queue.named[name].arn])
  })
}

data "aws_caller_identity" "current" {}

# What no policy of a role can allow: calls that are not encrypted, and principals
# of other accounts, but for those that are named.
data "aws_iam_policy_document" "queue" {
  for_each = local.queues

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [each.value.arn]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  statement {
    sid       = "NoOtherAccounts"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [each.value.arn]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "StringNotEquals"
      variable = "aws:PrincipalAccount"
      values   = concat([data.aws_caller_identity.current.account_id], local.sender_accounts[each.key])
    }

    # Services have no account.
    condition {
      test     = "Bool"
      variable = "aws:PrincipalIsAWSService"
      values   = ["false"]
    }
  }

  dynamic "statement" {
    for_each = local.senders[each.key]

    content {
      sid       = "Sender${replace(title(replace(statement.key, "/[-_]/", " ")), " ", "")}"
      actions   = statement.value.service == null ? ["sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SendMessage"] : ["sqs:SendMessage"]
      resources = [each.value.arn]

      principals {
        type        = statement.value.service == null ? "AWS" : "Service"
        identifiers = statement.value.service == null ? statement.value.principal_arns : [statement.value.service]
      }

      # A service acts for whoever asks it to: only for this source.
      dynamic "condition" {
        for_each = statement.value.source_arn[*]

        content {
          test     = "ArnLike"
          variable = "aws:SourceArn"
          values   = [condition.value]
        }
      }

      dynamic "condition" {
        for_each = statement.value.service[*]

        content {
          test     = "StringEquals"
          variable = "aws:SourceAccount"
          values   = [coalesce(statement.value.source_account, data.aws_caller_identity.current.account_id)]
        }
      }
    }
  }
}

resource "aws_sqs_queue_policy" "this" {
  for_each = local.queues

  queue_url = each.value.id
  policy    = data.aws_iam_policy_document.queue[each.key].json
}
