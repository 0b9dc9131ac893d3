# Tasks that end by themselves, or do not start. ECS counts them nowhere, so
# its events are counted: those that matched this rule. The events are kept in
# a log group, since ECS forgets a stopped task within the hour.

resource "aws_cloudwatch_event_rule" "task_failures" {
  name        = "${var.name}-task-failures"
  description = "Tasks of ${var.name} that failed"
  tags        = var.tags

  event_pattern = jsonencode({
    source        = ["aws.ecs"]
    "detail-type" = ["ECS Task State Change"]
    detail = {
      clusterArn = [var.cluster.arn]
      # Others may have services in the cluster, too.
      group      = [for name in var.cluster.service_names : "service:${name}"]
      lastStatus = ["STOPPED"]
      # Not those that were scaled in, deployed over, or taken by Spot.
      stopCode = ["EssentialContainerExited", "TaskFailedToStart"]
    }
  })
}

resource "aws_cloudwatch_log_group" "task_failures" {
  # EventBridge may write to groups of this prefix: the endpoints stack says so.
  name              = "/aws/events/${var.name}-task-failures"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "aws_cloudwatch_event_target" "task_failures" {
  rule = aws_cloudwatch_event_rule.task_failures.name
  arn  = aws_cloudwatch_log_group.task_failures.arn
}

resource "aws_cloudwatch_metric_alarm" "task_failures" {
  alarm_name        = "${var.name}-task-failures"
  alarm_description = "Tasks end by themselves or do not start; ${aws_cloudwatch_log_group.task_failures.name} has the reasons."
  namespace         = "AWS/Events"
  metric_name       = "TriggeredRules"
  dimensions        = { RuleName = aws_cloudwatch_event_rule.task_failures.name }
  statistic         = "Sum"
  # ECS waits for longer and longer before it starts one that failed again, so
  # a service of one task may bring three in no less than this.
  period              = 900
  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = var.task_failures
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.actions
  ok_actions          = local.actions
  tags                = var.tags
}
