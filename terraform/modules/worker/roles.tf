# The roles of the tasks.

locals {
  account_id = data.aws_caller_identity.current.account_id
  tasks_arn  = "arn:${data.aws_partition.current.partition}:ecs:${data.aws_region.current.region}:${local.account_id}:task/${local.cluster_name}/*"
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

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${data.aws_partition.current.partition}:ecs:${data.aws_region.current.region}:${local.account_id}:*"]
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
    resources = distinct(concat([var.repository_arn], local.sidecar_repositories))
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.worker.arn}:*"]
  }

  dynamic "statement" {
    for_each = length(local.secret_arns) > 0 ? [1] : []

    content {
      sid       = "Secrets"
      actions   = ["secretsmanager:GetSecretValue", "ssm:GetParameters"]
      resources = local.secret_arns
    }
  }

  dynamic "statement" {
    for_each = length(var.secrets_kms_key_arns) > 0 ? [1] : []

    content {
      sid       = "KeysOfSecrets"
      actions   = ["kms:Decrypt"]
      resources = var.secrets_kms_key_arns
    }
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

  dynamic "statement" {
    for_each = local.file_systems

    content {
      sid = "Mount${index(sort(keys(local.file_systems)), statement.key)}"
      actions = concat(
        ["elasticfilesystem:ClientMount"], statement.value.read_only ? [] : ["elasticfilesystem:ClientWrite"],
      )
      resources = [statement.value.file_system_arn]

      dynamic "condition" {
        for_each = statement.value.access_point_arn[*]

        content {
          test     = "StringEquals"
          variable = "elasticfilesystem:AccessPointArn"
          values   = [condition.value]
        }
      }
    }
  }

  # What ECS Exec runs in a task opens its own channel. It knows no resource.
  dynamic "statement" {
    for_each = var.enable_execute_command ? [1] : []

    content {
      sid = "Exec"
      actions = [
        "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
      ]
      resources = ["*"]
    }
  }
}

resource "aws_iam_role_policy" "consumer" {
  name   = "consume"
  role   = aws_iam_role.consumer.id
  policy = data.aws_iam_policy_document.consumer.json
}
