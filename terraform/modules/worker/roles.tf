# Who may do what. The lists are those of docs/aws.md, "Permissions".

locals {
  queue_look = ["sqs:GetQueueAttributes", "sqs:GetQueueUrl"]
  tasks_arn  = "arn:${data.aws_partition.current.partition}:ecs:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:task/${var.name}/*"
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
  name               = "${var.name}-execution"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
  tags               = var.tags
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

# What the tasks do.
resource "aws_iam_role" "consumer" {
  name               = "${var.name}-consumer"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
  tags               = var.tags
}

data "aws_iam_policy_document" "consumer" {
  statement {
    sid = "Queue"
    actions = concat(local.queue_look, [
      "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage", "sqs:SendMessage",
    ])
    resources = [var.queue.arn]
  }

  statement {
    sid       = "DeadLetters"
    actions   = concat(local.queue_look, ["sqs:SendMessage"])
    resources = [var.queue.dlq_arn]
  }

  statement {
    sid       = "Records"
    actions   = ["dynamodb:GetItem", "dynamodb:PartiQLInsert", "dynamodb:UpdateItem"]
    resources = [var.table.arn]
  }

  statement {
    sid       = "ProtectOwnTasks"
    actions   = ["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"]
    resources = [local.tasks_arn]
  }

  dynamic "statement" {
    for_each = var.bucket == null ? [] : [var.bucket.arn]

    content {
      sid       = "Payloads"
      actions   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
      resources = ["${statement.value}/haulage/*"]
    }
  }

  dynamic "statement" {
    for_each = var.bucket == null ? [] : [var.bucket.arn]

    content {
      sid       = "TellMissingFromForbidden"
      actions   = ["s3:ListBucket"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "consumer" {
  name   = "consume"
  role   = aws_iam_role.consumer.id
  policy = data.aws_iam_policy_document.consumer.json
}

# For whoever submits jobs: attach it to the role of your service.
data "aws_iam_policy_document" "producer" {
  statement {
    sid       = "Queue"
    actions   = concat(local.queue_look, ["sqs:SendMessage"])
    resources = [var.queue.arn]
  }

  statement {
    sid       = "Records"
    actions   = ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PartiQLInsert", "dynamodb:UpdateItem"]
    resources = [var.table.arn]
  }

  dynamic "statement" {
    for_each = var.bucket == null ? [] : [var.bucket.arn]

    content {
      sid       = "Payloads"
      actions   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
      resources = ["${statement.value}/haulage/*"]
    }
  }

  dynamic "statement" {
    for_each = var.bucket == null ? [] : [var.bucket.arn]

    content {
      sid       = "TellMissingFromForbidden"
      actions   = ["s3:ListBucket"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_policy" "producer" {
  name        = "${var.name}-producer"
  description = "Submit jobs to ${var.name} and read their results"
  policy      = data.aws_iam_policy_document.producer.json
  tags        = var.tags
}
