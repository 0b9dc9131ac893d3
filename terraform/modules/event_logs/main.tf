# EventBridge may write reports of failed tasks, of all pipelines of the region.
# There can be ten such policies in one ("CloudWatch Logs quotas").

data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_iam_policy_document" "events" {
  statement {
    sid       = "Reports"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["arn:${data.aws_partition.current.partition}:logs:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:log-group:/aws/events/*:*"]

    principals {
      type        = "Service"
      identifiers = ["delivery.logs.amazonaws.com", "events.amazonaws.com"]
    }

    # Not for a rule of another account.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }

    # EventBridge names no rule when it creates a stream ("Amazon EventBridge User
    # Guide", CloudWatch Logs permissions), but does when it writes to it.
    condition {
      test     = "ArnLikeIfExists"
      variable = "aws:SourceArn"
      values   = ["arn:${data.aws_partition.current.partition}:events:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:rule/*"]
    }
  }
}

resource "aws_cloudwatch_log_resource_policy" "events" {
  policy_name     = var.policy_name
  policy_document = data.aws_iam_policy_document.events.json
}
