# Who may do what to the jobs. The lists are those of docs/aws.md, "Permissions".

locals {
  account_id  = data.aws_caller_identity.current.account_id
  receive     = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"]
  queue_arns  = var.queues[*].arn
  dlq_arns    = distinct(var.queues[*].dlq_arn)
  object_arns = [for bucket in var.bucket[*] : "${bucket.arn}/haulage/*"]
  # What a submit writes. No result, no error, nothing of an end.
  submitted_attributes = [
    "attempt", "attempts_left", "body", "body_at", "due_at", "job_group", "max_attempts", "message_id", "op", "proof",
    "queue", "request_id", "result_ttl_us", "spec", "status", "submitted_at", "task_token", "uncounted", "updated_at",
  ]
  # And into the item of a body that is beside its record.
  body_attributes = [
    "body", "expiration", "message_id",
  ]
  # What a cancellation writes. No result, no body, nothing of the holder's.
  cancelled_attributes = [
    "cancel_requested", "cancelled_jobs", "dead_of", "deliveries", "due_at", "error", "error_kind", "error_type",
    "expiration", "expires_at", "finished_at", "message_id", "op", "receipt", "received_at", "status", "told_at",
    "updated_at",
  ]
  # By a key of one's own, data is encrypted and decrypted in the caller's name.
  key_reads  = ["kms:Decrypt", "kms:DescribeKey"]
  key_writes = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
  through    = [for service in ["dynamodb", "s3", "sqs"] : "${service}.${data.aws_region.current.region}.amazonaws.com"]
}

data "aws_caller_identity" "current" {}

data "aws_region" "current" {}

# What all do: find the queues, and see how they are set.
data "aws_iam_policy_document" "find" {
  statement {
    sid       = "FindQueue"
    actions   = ["sqs:GetQueueAttributes", "sqs:GetQueueUrl"]
    resources = local.queue_arns
  }

  statement {
    sid       = "FindDeadLetters"
    actions   = ["sqs:GetQueueUrl"]
    resources = local.dlq_arns
  }
}

data "aws_iam_policy_document" "submit" {
  source_policy_documents = [data.aws_iam_policy_document.find.json]

  statement {
    sid       = "Send"
    actions   = ["sqs:SendMessage"]
    resources = local.queue_arns
  }

  # An insert changes no record that is there; and what it adds is a record, not a note for servers and workers.
  statement {
    sid       = "NewRecords"
    actions   = ["dynamodb:PartiQLInsert"]
    resources = [var.table.arn]

    condition {
      test     = "ForAllValues:StringNotLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["cancelled#*", "paused#*", "webhook#*"]
    }

    # The record may not be there yet: its job's message can come first, or be of a
    # program that makes no records. It is not to begin with a result.
    condition {
      test     = "ForAllValues:StringEquals"
      variable = "dynamodb:Attributes"
      values   = local.submitted_attributes
    }
  }

  # With keep_bodies in the URL, a body that is too large for its record is an item of its
  # own, with a time at which it is deleted.
  statement {
    sid       = "Bodies"
    actions   = ["dynamodb:PartiQLInsert"]
    resources = [var.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["body#*"]
    }

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "dynamodb:Attributes"
      values   = local.body_attributes
    }
  }

  statement {
    sid       = "IdempotencyKeys"
    actions   = ["dynamodb:UpdateItem"]
    resources = [var.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["key#*", "token#*"]
    }
  }

  # A key is free once its job is over.
  statement {
    sid       = "WhetherOver"
    actions   = ["dynamodb:GetItem"]
    resources = [var.table.arn]

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "dynamodb:Attributes"
      values   = ["message_id", "status"]
    }

    # As Amazon has it ("Using IAM policy conditions for fine-grained access
    # control"): a read of all attributes would say so.
    condition {
      test     = "StringEqualsIfExists"
      variable = "dynamodb:Select"
      values   = ["SPECIFIC_ATTRIBUTES"]
    }
  }

  dynamic "statement" {
    for_each = var.bucket[*]

    content {
      sid       = "LargeBodies"
      actions   = ["s3:PutObject"]
      resources = local.object_arns

      condition {
        test     = "StringEquals"
        variable = "s3:ResourceAccount"
        values   = [local.account_id]
      }
    }
  }

  dynamic "statement" {
    for_each = var.kms_key_arn[*]

    content {
      sid       = "Key"
      actions   = local.key_writes
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = local.through
      }
    }
  }
}

data "aws_iam_policy_document" "read_records" {
  source_policy_documents = [data.aws_iam_policy_document.find.json]

  statement {
    sid       = "Records"
    actions   = ["dynamodb:BatchGetItem", "dynamodb:GetItem"]
    resources = [var.table.arn]
  }

  dynamic "statement" {
    for_each = var.bucket[*]

    content {
      sid       = "Payloads"
      actions   = ["s3:GetObject"]
      resources = local.object_arns

      condition {
        test     = "StringEquals"
        variable = "s3:ResourceAccount"
        values   = [local.account_id]
      }
    }
  }

  dynamic "statement" {
    for_each = var.bucket[*]

    content {
      sid       = "TellMissingFromForbidden"
      actions   = ["s3:ListBucket"]
      resources = [statement.value.arn]
    }
  }
}

data "aws_iam_policy_document" "read" {
  source_policy_documents = [data.aws_iam_policy_document.read_records.json]

  dynamic "statement" {
    for_each = var.kms_key_arn[*]

    content {
      sid       = "Key"
      actions   = local.key_reads
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = local.through
      }
    }
  }
}

# What all do who end jobs: a job's webhook is told of that in the same step.
data "aws_iam_policy_document" "tell" {
  statement {
    sid       = "TellWebhooks"
    actions   = ["dynamodb:PutItem"]
    resources = [var.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["webhook#*"]
    }
  }
}

data "aws_iam_policy_document" "cancel" {
  source_policy_documents = [data.aws_iam_policy_document.find.json, data.aws_iam_policy_document.tell.json]

  statement {
    sid       = "Look"
    actions   = ["dynamodb:BatchGetItem", "dynamodb:GetItem"]
    resources = [var.table.arn]
  }

  statement {
    sid       = "Cancel"
    actions   = ["dynamodb:UpdateItem"]
    resources = [var.table.arn]

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "dynamodb:Attributes"
      values   = local.cancelled_attributes
    }
  }

  dynamic "statement" {
    for_each = var.kms_key_arn[*]

    content {
      sid       = "Key"
      actions   = local.key_writes
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = local.through
      }
    }
  }
}

# What consumers and operators do besides reading: send, and write any record.
data "aws_iam_policy_document" "write" {
  source_policy_documents = [data.aws_iam_policy_document.read_records.json, data.aws_iam_policy_document.tell.json]

  statement {
    sid       = "Send"
    actions   = ["sqs:SendMessage"]
    resources = local.queue_arns
  }

  statement {
    sid       = "WriteRecords"
    actions   = ["dynamodb:PartiQLInsert", "dynamodb:UpdateItem"]
    resources = [var.table.arn]
  }

  # The attributes are for `haulage doctor`.
  statement {
    sid       = "CopyDeadLetters"
    actions   = ["sqs:GetQueueAttributes", "sqs:SendMessage"]
    resources = local.dlq_arns
  }

  dynamic "statement" {
    for_each = var.bucket[*]

    content {
      sid       = "WritePayloads"
      actions   = ["s3:DeleteObject", "s3:PutObject"]
      resources = local.object_arns

      condition {
        test     = "StringEquals"
        variable = "s3:ResourceAccount"
        values   = [local.account_id]
      }
    }
  }

  dynamic "statement" {
    for_each = var.kms_key_arn[*]

    content {
      sid       = "Key"
      actions   = local.key_writes
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = local.through
      }
    }
  }
}

data "aws_iam_policy_document" "consume" {
  source_policy_documents = [data.aws_iam_policy_document.write.json]

  statement {
    sid       = "WorkOffQueue"
    actions   = local.receive
    resources = local.queue_arns
  }
}

# For people: list, count, purge and redrive jobs, and the whole of `haulage
# doctor`, which looks whether consumers could receive.
data "aws_iam_policy_document" "operate" {
  source_policy_documents = [data.aws_iam_policy_document.write.json]

  statement {
    sid       = "Receive"
    actions   = local.receive
    resources = concat(local.queue_arns, local.dlq_arns)
  }

  # Which queues there are. It knows no resource.
  statement {
    sid       = "ListQueues"
    actions   = ["sqs:ListQueues"]
    resources = ["*"]
  }

  statement {
    sid = "AllRecords"
    actions = [
      "dynamodb:DeleteItem", "dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive", "dynamodb:Scan",
    ]
    resources = [var.table.arn]
  }

  statement {
    sid       = "DeadRecords"
    actions   = ["dynamodb:Query"]
    resources = ["${var.table.arn}/index/dead_letters"]
  }

  # What is to be told to webhooks: for `haulage serve`, which delivers it, and `haulage webhook`.
  statement {
    sid       = "Deliveries"
    actions   = ["dynamodb:Query"]
    resources = ["${var.table.arn}/index/webhooks"]
  }

  dynamic "statement" {
    for_each = var.bucket[*]

    content {
      sid       = "LifecycleOfPayloads"
      actions   = ["s3:GetLifecycleConfiguration"]
      resources = [statement.value.arn]
    }
  }
}

# For programs and people: attach them to the roles of yours that need them.
resource "aws_iam_policy" "this" {
  for_each = {
    submit  = ["Submit jobs to ${var.name}", data.aws_iam_policy_document.submit.json]
    read    = ["Read the jobs of ${var.name} and their results, and wait for them", data.aws_iam_policy_document.read.json]
    cancel  = ["Cancel jobs of ${var.name}", data.aws_iam_policy_document.cancel.json]
    operate = ["Look after the jobs of ${var.name}: list, purge, redrive, doctor", data.aws_iam_policy_document.operate.json]
  }

  name        = "${var.name}-${each.key}"
  path        = var.iam_path
  description = each.value[0]
  policy      = each.value[1]
  tags        = var.tags
}
