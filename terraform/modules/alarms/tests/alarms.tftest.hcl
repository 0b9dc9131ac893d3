mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:made-up" }
  }
}

variables {
  name       = "jobs"
  cluster    = { name = "jobs", arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/jobs", service_names = ["jobs", "jobs-spot"] }
  queue_name = "jobs.fifo"
  dlq_name   = "jobs-dlq.fifo"
  table_name = "jobs-records"
  topic_arn  = "arn:aws:sns:eu-central-1:123456789012:alerts"

  message_retention_seconds = 1209600
}

run "somebody_is_told" {
  variables {
    lambda_name           = "jobs-autoscale"
    dashboard             = true
    dollars_per_task_hour = 0.5
  }
  assert {
    condition = alltrue([for alarm in [
      aws_cloudwatch_metric_alarm.dead_letters, aws_cloudwatch_metric_alarm.oldest_job[""], aws_cloudwatch_metric_alarm.retention[""],
      aws_cloudwatch_metric_alarm.no_progress[0], aws_cloudwatch_metric_alarm.task_failures,
    ] : alarm.alarm_actions == toset([var.topic_arn]) && alarm.ok_actions == toset([var.topic_arn])])
    error_message = "Each alarm tells the topic when it begins and when it ends."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.retention[""].threshold == 604800
    error_message = "A week is left of the two."
  }
  assert {
    condition     = jsondecode(aws_cloudwatch_event_rule.task_failures.event_pattern).detail.group == ["service:jobs", "service:jobs-spot"]
    error_message = "Of these services, and no others of the cluster."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.no_progress[0].evaluation_periods == 15
    error_message = "15 minutes without progress."
  }
  assert {
    condition     = length(jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets) == 8
    error_message = "Jobs, tasks, waiting, errors, cost."
  }
  assert {
    condition     = strcontains(aws_cloudwatch_dashboard.this[0].dashboard_body, "tasks * 0.5")
    error_message = "At the price that was given."
  }
  assert {
    condition     = strcontains(aws_cloudwatch_dashboard.this[0].dashboard_body, "WriteThrottleEvents") && !strcontains(aws_cloudwatch_dashboard.this[0].dashboard_body, "ThrottledRequests")
    error_message = "Metrics that a table has without naming an operation."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.task_failures.period == 900
    error_message = "Long enough for three failures of one task."
  }
}

run "the_dashboard_has_the_lambda" {
  variables {
    lambda_name           = "jobs-autoscale"
    dashboard             = true
    dollars_per_task_hour = 0.5
  }
  assert {
    condition = alltrue([for word in ["RunningTasks", "RequiredTasks", "BacklogSeconds", "AWS/Lambda"] :
      strcontains(aws_cloudwatch_dashboard.this[0].dashboard_body, word)
    ])
    error_message = "What it puts, and whether it fails."
  }
  assert {
    condition     = !strcontains(aws_cloudwatch_dashboard.this[0].dashboard_body, "SampleCount")
    error_message = "Tasks are counted once."
  }
  assert {
    condition = [for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets :
      widget.properties.metrics[1] if startswith(widget.properties.title, "Cost")
    ] == [["Haulage", "RunningTasks", "ClusterName", "jobs", "ServiceName", "jobs", "QueueName", "jobs.fifo", { id = "tasks", label = "running", visible = false }]]
    error_message = "The price is times the tasks, which are not shown twice."
  }
}

run "a_dashboard_without_a_lambda" {
  variables {
    dashboard             = true
    dollars_per_task_hour = 0.5
  }
  assert {
    condition = !anytrue([for word in ["RunningTasks", "RequiredTasks", "BacklogSeconds", "AWS/Lambda"] :
      strcontains(aws_cloudwatch_dashboard.this[0].dashboard_body, word)
    ])
    error_message = "No line that would stay empty."
  }
  assert {
    condition = length([for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets :
      widget if length(widget.properties.metrics) == 0
    ]) == 0
    error_message = "No widget without a line."
  }
  assert {
    condition = [for widget in jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets :
      widget.properties.metrics[0][0].expression if widget.properties.title == "Tasks"
    ] == ["60 * lines / PERIOD(lines)"]
    error_message = "Tasks count by what they put."
  }
}

run "without_a_lambda" {
  assert {
    condition     = length(output.alarm_names) == 5 && length(aws_cloudwatch_dashboard.this) == 0
    error_message = "Five alarms, and no dashboard."
  }
}

run "named_queues" {
  variables {
    more_queues = { bulk = "jobs--bulk.fifo" }
  }
  assert {
    condition     = contains(output.alarm_names, "jobs-oldest-job-bulk") && contains(output.alarm_names, "jobs-retention-bulk") && length(output.alarm_names) == 7
    error_message = "Each has its age: ${join(", ", output.alarm_names)}"
  }
  assert {
    condition = one([for query in aws_cloudwatch_metric_alarm.no_progress[0].metric_query : query.expression if query.id == "stuck"]) == (
      "IF(FILL(running0, 0) + FILL(running1, 0) + FILL(ended0, 0) + FILL(ended1, 0) == 0, FILL(waiting0, 0) + FILL(waiting1, 0), 0)"
    )
    error_message = "A service that works off one of them makes progress."
  }
}

# CloudWatch takes 10 metrics in an alarm, and no more.
run "as_many_named_queues_as_there_can_be" {
  variables {
    more_queues = { for number in range(1, 10) : "q${number}" => "jobs--q${number}.fifo" }
  }
  assert {
    condition = alltrue([for alarm in concat(values(aws_cloudwatch_metric_alarm.no_progress_part), values(aws_cloudwatch_metric_alarm.oldest_job)) :
      length([for query in alarm.metric_query : query if length(query.metric) > 0]) <= 10
    ]) && length(aws_cloudwatch_metric_alarm.no_progress) == 0
    error_message = "No alarm has more than 10 metrics."
  }
  assert {
    condition = (
      aws_cloudwatch_composite_alarm.no_progress[0].alarm_rule ==
      "ALARM(\"jobs-no-progress-idle1\") AND ALARM(\"jobs-no-progress-idle2\") AND ALARM(\"jobs-no-progress-waiting\")"
    )
    error_message = "Jobs wait, and nothing goes on anywhere: ${aws_cloudwatch_composite_alarm.no_progress[0].alarm_rule}"
  }
  assert {
    condition = length(setintersection(
      toset(flatten([for part in aws_cloudwatch_metric_alarm.no_progress_part : [
        for query in part.metric_query : "${query.metric[0].metric_name} ${query.metric[0].dimensions.QueueName}" if length(query.metric) > 0
      ]])),
      toset([for pair in setproduct(
        ["ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible", "NumberOfMessagesDeleted"],
        concat([var.queue_name], values(var.more_queues)),
      ) : "${pair[0]} ${pair[1]}"]),
    )) == 30
    error_message = "Each queue is looked at for what waits, runs and ended."
  }
  assert {
    condition = (
      aws_cloudwatch_composite_alarm.no_progress[0].alarm_actions == toset([var.topic_arn]) &&
      alltrue([for part in aws_cloudwatch_metric_alarm.no_progress_part : length(coalesce(part.alarm_actions, [])) == 0])
    )
    error_message = "The whole tells the topic, and its parts tell nobody."
  }
  assert {
    condition     = { for key, part in aws_cloudwatch_metric_alarm.no_progress_part : key => part.treat_missing_data } == { idle1 = "breaching", idle2 = "breaching", waiting = "notBreaching" }
    error_message = "Queues that report nothing are idle, and have nothing that waits."
  }
  assert {
    condition     = length(output.alarm_names) == 23 && contains(output.alarm_names, "jobs-no-progress-all")
    error_message = "Those that somebody is told of: ${join(", ", output.alarm_names)}"
  }
}

run "three_queues_fit_into_one_alarm" {
  variables {
    more_queues = { a = "jobs--a.fifo", b = "jobs--b.fifo" }
  }
  assert {
    condition     = length(aws_cloudwatch_composite_alarm.no_progress) == 0 && length([for query in aws_cloudwatch_metric_alarm.no_progress[0].metric_query : query if length(query.metric) > 0]) == 9
    error_message = "Three queues have one alarm of nine metrics."
  }
  assert {
    condition     = contains(output.alarm_names, "jobs-no-progress")
    error_message = "By a name that a composite alarm never has, as one may be made while the other is deleted: ${join(", ", output.alarm_names)}"
  }
}

run "without_a_price" {
  variables {
    dashboard = true
  }
  assert {
    condition     = length(jsondecode(aws_cloudwatch_dashboard.this[0].dashboard_body).widgets) == 7
    error_message = "No costs where no price is known."
  }
}

run "refused" {
  command = plan
  variables {
    topic_arn             = "alerts"
    oldest_job_seconds    = 5
    no_progress_minutes   = 1
    task_failures         = 0
    dollars_per_task_hour = -1
    log_retention_days    = 31
  }
  expect_failures = [
    var.topic_arn, var.oldest_job_seconds, var.no_progress_minutes, var.task_failures, var.dollars_per_task_hour,
    var.log_retention_days,
  ]
}
