# The roles of the tasks.

locals {
  account_id = data.aws_caller_identity.current.account_id
  tasks_arn  = "arn:${data.aws_partition.current.partition}:ecs:${data.aws_region.current.region}:${local.account_id}:task/${var.name}/*"
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
      values   = [local.account_id]
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

# What the tasks do. Handlers do it, too: ECS has one role for all of a task.
resource "aws_iam_role" "consumer" {
  name                 = "${var.name}-consumer"
  path                 = var.iam_path
  permissions_boundary = var.permissions_boundary
  assume_role_policy   = data.aws_iam_policy_document.tasks.json
  tags                 = var.tags
}

data "aws_iam_policy_document" "consumer" {
  source_policy_documents = [var.consume_policy]

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
