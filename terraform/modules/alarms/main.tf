# What somebody should look at. docs/alarms.md says what to do about each.

locals {
  actions = var.topic_arn == null ? [] : [var.topic_arn]
  # By the ends of the names of their alarms.
  queues = merge({ "" = var.queue_name }, { for name, queue in var.more_queues : "-${name}" => queue })
  # What tells whether anything goes on, of each queue.
  waiting = [for index in range(length(local.queues)) : "waiting${index}"]
  running = [for index in range(length(local.queues)) : "running${index}"]
  ended   = [for index in range(length(local.queues)) : "ended${index}"]
  progress = merge([for index, queue in values(local.queues) : {
    "waiting${index}" = { queue = queue, metric = "ApproximateNumberOfMessagesVisible", stat = "Minimum" }
    "running${index}" = { queue = queue, metric = "ApproximateNumberOfMessagesNotVisible", stat = "Maximum" }
    "ended${index}"   = { queue = queue, metric = "NumberOfMessagesDeleted", stat = "Sum" }
  }]...)
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
  for_each = local.queues

  alarm_name          = "${var.name}-oldest-job${each.key}"
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
      dimensions  = { QueueName = each.value }
      stat        = "Minimum"
      period      = 60
    }
  }

  metric_query {
    id = "age"

    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateAgeOfOldestMessage"
      dimensions  = { QueueName = each.value }
      stat        = "Maximum"
      period      = 60
    }
  }
}

# SQS deletes what nobody has received in time. Nothing else goes off where no task
# has been there for days.
resource "aws_cloudwatch_metric_alarm" "retention" {
  for_each = local.queues

  alarm_name          = "${var.name}-retention${each.key}"
  alarm_description   = "A message is half as old as the queue keeps messages (${var.message_retention_seconds} s); then SQS deletes it. Do workers receive anything?"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = each.value }
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
    expression  = "IF(${join(" + ", local.running)} == 0 AND ${join(" + ", [for id in local.ended : "FILL(${id}, 0)"])} == 0, ${join(" + ", local.waiting)}, 0)"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = local.progress

    content {
      id = metric_query.key

      metric {
        namespace   = "AWS/SQS"
        metric_name = metric_query.value.metric
        dimensions  = { QueueName = metric_query.value.queue }
        stat        = metric_query.value.stat
        period      = 60
      }
    }
  }
}
