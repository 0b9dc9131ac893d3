# What somebody should look at. docs/alarms.md says what to do about each.

locals {
  actions = var.alarm_topic_arn == null ? [] : [var.alarm_topic_arn]
}

resource "aws_cloudwatch_metric_alarm" "lambda_errors" {
  count = var.alarms ? 1 : 0

  alarm_name          = "${var.name}-lambda-errors"
  alarm_description   = "The Lambda that computes the scaling metrics fails, wholly or for some pairs, so a service does not scale. Its log says why, and what to do."
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = aws_lambda_function.autoscale.function_name }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.actions
  ok_actions          = local.actions
  tags                = var.tags
}

# A Lambda that is not invoked has no errors.
resource "aws_cloudwatch_metric_alarm" "lambda_silent" {
  count = var.alarms ? 1 : 0

  alarm_name          = "${var.name}-lambda-silent"
  alarm_description   = "The scaling Lambda has not run for 10 minutes, so no service scales. Is the schedule on?"
  namespace           = "AWS/Lambda"
  metric_name         = "Invocations"
  dimensions          = { FunctionName = aws_lambda_function.autoscale.function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 2
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  treat_missing_data  = "breaching"
  alarm_actions       = local.actions
  ok_actions          = local.actions
  tags                = var.tags
}
