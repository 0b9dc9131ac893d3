# What somebody should look at. docs/alarms.md says what to do about each.

locals {
  actions = var.topic_arn == null ? [] : [var.topic_arn]
  # By the ends of the names of their alarms.
  queues = merge({ "" = var.queue_name }, { for name, queue in var.more_queues : "-${name}" => queue })
  # Names are unique among alarms of all kinds. With one of its own, the composite alarm
  # can be made while the plain one is deleted, and the other way round.
  no_progress = {
    name        = "${var.name}-no-progress${local.in_parts ? "-all" : ""}"
    description = "Jobs wait, and for ${var.no_progress_minutes} minutes none ran or ended. Do tasks start?"
  }
  # What tells whether anything goes on, of each queue. SQS stops reporting a
  # queue that is empty and unused, which must not silence the others.
  names   = values(local.queues)
  nothing = { for kind in ["running", "ended"] : kind => [for index in range(length(local.names)) : "FILL(${kind}${index}, 0)"] }
  waiting = join(" + ", [for index in range(length(local.names)) : "FILL(waiting${index}, 0)"])
  metrics = merge([for index, queue in local.names : {
    "waiting${index}" = { queue = queue, metric = "ApproximateNumberOfMessagesVisible", stat = "Minimum" }
    "running${index}" = { queue = queue, metric = "ApproximateNumberOfMessagesNotVisible", stat = "Maximum" }
    "ended${index}"   = { queue = queue, metric = "NumberOfMessagesDeleted", stat = "Sum" }
  }]...)

  # An alarm has 10 metrics at most, which no request can raise ("Amazon
  # CloudWatch Developer Guide", CloudWatch service quotas). Where there are more
  # than three queues, it is made of parts that have 10 or fewer: that jobs wait
  # in any queue, and that nothing goes on in these five of them. Each part is
  # over the same minutes, so all of them at once say what one alarm would.
  in_parts = length(local.names) > 3
  fives    = chunklist(range(length(local.names)), 5)
  parts = { for id, part in merge(
    { waiting = {
      description = "Jobs wait, in any queue."
      expression  = local.waiting
      metrics     = [for index in range(length(local.names)) : "waiting${index}"]
    } },
    { for number, five in local.fives : "idle${number + 1}" => {
      description = "No job runs or ended in ${join(", ", [for index in five : local.names[index]])}."
      expression  = "IF(${join(" + ", flatten([for index in five : [local.nothing.running[index], local.nothing.ended[index]]]))} == 0, 1, 0)"
      metrics     = flatten([for index in five : ["running${index}", "ended${index}"]])
    } },
  ) : id => part if local.in_parts }
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
  # SQS stops reporting a queue that is empty and unused.
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
  count = local.in_parts ? 0 : 1

  alarm_name          = local.no_progress.name
  alarm_description   = local.no_progress.description
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
    expression  = "IF(${join(" + ", concat(local.nothing.running, local.nothing.ended))} == 0, ${local.waiting}, 0)"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = local.metrics

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

# They tell nobody: a pipeline at rest is idle, and one at work has jobs that wait.
resource "aws_cloudwatch_metric_alarm" "no_progress_part" {
  for_each = local.parts

  alarm_name          = "${var.name}-no-progress-${each.key}"
  alarm_description   = "${each.value.description} A part of ${local.no_progress.name}, and by itself no reason to look."
  evaluation_periods  = var.no_progress_minutes
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  # Of queues that report nothing, nothing goes on, and nothing waits.
  treat_missing_data = each.key == "waiting" ? "notBreaching" : "breaching"
  tags               = var.tags

  metric_query {
    id          = "part"
    label       = each.value.description
    expression  = each.value.expression
    return_data = true
  }

  dynamic "metric_query" {
    for_each = each.value.metrics

    content {
      id = metric_query.value

      metric {
        namespace   = "AWS/SQS"
        metric_name = local.metrics[metric_query.value].metric
        dimensions  = { QueueName = local.metrics[metric_query.value].queue }
        stat        = local.metrics[metric_query.value].stat
        period      = 60
      }
    }
  }
}

resource "aws_cloudwatch_composite_alarm" "no_progress" {
  count = local.in_parts ? 1 : 0

  alarm_name        = local.no_progress.name
  alarm_description = local.no_progress.description
  alarm_rule        = join(" AND ", [for part in aws_cloudwatch_metric_alarm.no_progress_part : "ALARM(\"${part.alarm_name}\")"])
  alarm_actions     = local.actions
  ok_actions        = local.actions
  tags              = var.tags
}
