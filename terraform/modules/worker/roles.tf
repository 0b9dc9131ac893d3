# Who may do what. The lists are those of docs/aws.md, "Permissions".

locals {
  receive   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"]
  tasks_arn = "arn:${data.aws_partition.current.partition}:ecs:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:task/${var.name}/*"
}

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    # Not for tasks of another account (ECS Developer Guide, "Task IAM role").
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

# What ECS itself does to start a task: pull its image, write its log.
resource "aws_iam_role" "execution" {
  name                 = "${var.name}-execution"
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary
  assume_role_policy   = data.aws_iam_policy_document.tasks.json
  tags                 = var.tags
}

data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "Login"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"] # It knows no resource.
  }

  statement {
    sid       = "Pull"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [var.repository_arn]
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.worker.arn}:*"]
  }
}

resource "aws_iam_role_policy" "execution" {
  name   = "start"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

# What all three do: send jobs, read and write records and payloads.
data "aws_iam_policy_document" "jobs" {
  statement {
    sid       = "Queue"
    actions   = ["sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SendMessage"]
    resources = [var.queue.arn]
  }

  statement {
    sid       = "FindDeadLetters"
    actions   = ["sqs:GetQueueUrl"]
    resources = [var.queue.dlq_arn]
  }

  statement {
    sid       = "Records"
    actions   = ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PartiQLInsert", "dynamodb:UpdateItem"]
    resources = [var.table.arn]
  }

  dynamic "statement" {
    for_each = var.bucket[*]

    content {
      sid       = "Payloads"
      actions   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
      resources = ["${statement.value.arn}/haulage/*"]
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

# What the tasks do.
resource "aws_iam_role" "consumer" {
  name                 = "${var.name}-consumer"
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary
  assume_role_policy   = data.aws_iam_policy_document.tasks.json
  tags                 = var.tags
}

data "aws_iam_policy_document" "consumer" {
  source_policy_documents = [data.aws_iam_policy_document.jobs.json]

  statement {
    sid       = "WorkOffQueue"
    actions   = local.receive
    resources = [var.queue.arn]
  }

  # The attributes are for `haulage doctor`.
  statement {
    sid       = "BuryDeadLetters"
    actions   = ["sqs:GetQueueAttributes", "sqs:SendMessage"]
    resources = [var.queue.dlq_arn]
  }

  statement {
    sid       = "ProtectOwnTasks"
    actions   = ["ecs:UpdateTaskProtection"]
    resources = [local.tasks_arn]
  }
}

resource "aws_iam_role_policy" "consumer" {
  name   = "consume"
  role   = aws_iam_role.consumer.id
  policy = data.aws_iam_policy_document.consumer.json
}

# For whoever submits jobs: attach it to the role of your service.
resource "aws_iam_policy" "producer" {
  name        = "${var.name}-producer"
  path        = var.iam_path
  description = "Submit jobs to ${var.name} and read their results"
  policy      = data.aws_iam_policy_document.jobs.json
  tags        = var.tags
}

# For people: list, count, purge and redrive jobs, and the whole of `haulage
# doctor`, which looks whether consumers could receive.
data "aws_iam_policy_document" "operator" {
  source_policy_documents = [data.aws_iam_policy_document.jobs.json]

  statement {
    sid       = "Receive"
    actions   = local.receive
    resources = [var.queue.arn, var.queue.dlq_arn]
  }

  statement {
    sid       = "DeadLetters"
    actions   = ["sqs:GetQueueAttributes", "sqs:SendMessage"]
    resources = [var.queue.dlq_arn]
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

  dynamic "statement" {
    for_each = var.bucket[*]

    content {
      sid       = "LifecycleOfPayloads"
      actions   = ["s3:GetLifecycleConfiguration"]
      resources = [statement.value.arn]
    }
  }
}

resource "aws_iam_policy" "operator" {
  name        = "${var.name}-operator"
  path        = var.iam_path
  description = "Look after the jobs of ${var.name}: list, purge, redrive, doctor"
  policy      = data.aws_iam_policy_document.operator.json
  tags        = var.tags
}
