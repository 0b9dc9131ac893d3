# What somebody should look at. docs/alarms.md says what to do about each.

locals {
  actions = var.topic_arn == null ? [] : [var.topic_arn]
}

data "aws_region" "current" {}

resource "aws_cloudwatch_metric_alarm" "dead_letters" {
  alarm_name          = "${var.name}-dead-letters"
  alarm_description   = "Jobs have used up their attempts: haulage dead list."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = var.dlq_name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  # SQS stops to report of a queue that is empty and unused.
  treat_missing_data = "notBreaching"
  alarm_actions      = local.actions
  ok_actions         = local.actions
  tags               = var.tags
}

# The age counts from the send, and is of messages in flight and delayed ones,
# too: it is no waiting time where nothing waits, and with long jobs less than
# one where something does. SQS leaves messages that were received three times
# or more out of it, so a job that fails again and again does not hide the
# others.
resource "aws_cloudwatch_metric_alarm" "oldest_job" {
  alarm_name          = "${var.name}-oldest-job"
  alarm_description   = "Jobs wait, and the oldest that is not done was submitted more than ${var.oldest_job_seconds} s ago. Are there enough tasks? Or does a job take that long?"
  evaluation_periods  = 3
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.oldest_job_seconds
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.actions
  ok_actions          = local.actions
  tags                = var.tags

  metric_query {
    id          = "waiting_age"
    label       = "Age of the oldest job while some wait"
    expression  = "IF(visible > 0, age, 0)"
    return_data = true
  }

  metric_query {
    id = "visible"

    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = var.queue_name }
      stat        = "Minimum"
      period      = 60
    }
  }

  metric_query {
    id = "age"

    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateAgeOfOldestMessage"
      dimensions  = { QueueName = var.queue_name }
      stat        = "Maximum"
      period      = 60
    }
  }
}

# SQS deletes what nobody has received in time. Nothing else goes off where no task
# has been there for days.
resource "aws_cloudwatch_metric_alarm" "retention" {
  alarm_name          = "${var.name}-retention"
  alarm_description   = "A message is half as old as the queue keeps messages (${var.message_retention_seconds} s); then SQS deletes it. Do workers receive anything?"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = var.queue_name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = floor(var.message_retention_seconds / 2)
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.actions
  ok_actions          = local.actions
  tags                = var.tags
}

# Jobs that run for hours are progress, although none ends: they are in flight.
resource "aws_cloudwatch_metric_alarm" "no_progress" {
  alarm_name          = "${var.name}-no-progress"
  alarm_description   = "Jobs wait, and for ${var.no_progress_minutes} minutes none ran or ended. Do tasks start?"
  evaluation_periods  = var.no_progress_minutes
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.actions
  ok_actions          = local.actions
  tags                = var.tags

  metric_query {
    id          = "stuck"
    label       = "Jobs that wait while none runs or ends"
    expression  = "IF(running == 0 AND FILL(ended, 0) == 0, waiting, 0)"
    return_data = true
  }

  metric_query {
    id = "waiting"

    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = var.queue_name }
      stat        = "Minimum"
      period      = 60
    }
  }

  metric_query {
    id = "running"

    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesNotVisible"
      dimensions  = { QueueName = var.queue_name }
      stat        = "Maximum"
      period      = 60
    }
  }

  metric_query {
    id = "ended"

    metric {
      namespace   = "AWS/SQS"
      metric_name = "NumberOfMessagesDeleted"
      dimensions  = { QueueName = var.queue_name }
      stat        = "Sum"
      period      = 60
    }
  }
}
