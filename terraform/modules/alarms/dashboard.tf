# Queue, tasks, slots, waiting time, jobs, errors and cost on one page.

locals {
  queue_metric = ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", var.queue_name]
  own_metrics  = ["ClusterName", var.cluster.name, "ServiceName", var.cluster.service_names[0], "QueueName", var.queue_name]
  # The Lambda counts them. Without it, they count themselves: each puts its
  # Slots once a minute.
  tasks = concat(
    [for name in var.lambda_name[*] :
      concat(["Haulage", "RunningTasks"], local.own_metrics, [{ id = "tasks", label = "running" }])
    ],
    [for line in [
      [{ expression = "60 * lines / PERIOD(lines)", id = "tasks", label = "running" }],
      concat(["Haulage", "Slots"], local.own_metrics, [{ id = "lines", stat = "SampleCount", visible = false }]),
    ] : line if var.lambda_name == null],
  )
  required = [for name in var.lambda_name[*] :
    concat(["Haulage", "RequiredTasks"], local.own_metrics, [{ label = "required" }])
  ]
  time_to_drain = [for name in var.lambda_name[*] :
    concat(["Haulage", "BacklogSeconds"], local.own_metrics, [{ label = "time to drain" }])
  ]
  lambda_errors = [for name in var.lambda_name[*] :
    ["AWS/Lambda", "Errors", "FunctionName", name, { label = "failed runs of the Lambda", stat = "Sum" }]
  ]
  # Without a price, there is nothing to multiply.
  cost_widgets = [for price in var.dollars_per_task_hour[*] : {
    title = "Cost of the tasks, in dollars an hour"
    metrics = concat(
      [[{ expression = "tasks * ${price}", label = "tasks", id = "cost" }]],
      [for line in local.tasks : concat(
        slice(line, 0, length(line) - 1), [merge(line[length(line) - 1], { visible = false })],
      )],
    )
  }]
  widgets = concat([
    {
      title = "Jobs"
      metrics = [
        concat(local.queue_metric, [{ label = "waiting" }]),
        ["AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "QueueName", var.queue_name, { label = "running" }],
        ["AWS/SQS", "ApproximateNumberOfMessagesDelayed", "QueueName", var.queue_name, { label = "delayed" }],
      ]
    },
    {
      title   = "Tasks"
      metrics = concat(local.tasks, local.required)
    },
    {
      title = "Slots in use, in percent"
      metrics = [
        [{ expression = "100 * busy / slots", label = "in use", id = "use" }],
        concat(["Haulage", "BusySlots"], local.own_metrics, [{ id = "busy", visible = false }]),
        concat(["Haulage", "Slots"], local.own_metrics, [{ id = "slots", visible = false }]),
      ]
    },
    {
      title = "Waiting, in seconds"
      metrics = concat(local.time_to_drain, [
        ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", var.queue_name, { label = "age of the oldest job", stat = "Maximum" }],
      ])
    },
    {
      title = "Seconds for a job"
      metrics = [
        concat(["Haulage", "JobSeconds"], local.own_metrics, [{ label = "mean" }]),
        concat(["Haulage", "JobSeconds"], local.own_metrics, [{ label = "nine in ten below", stat = "p90" }]),
      ]
    },
    {
      title = "Attempts that ended, in a minute"
      metrics = [
        concat(["Haulage", "JobsSucceeded"], local.own_metrics, [{ label = "succeeded", stat = "Sum" }]),
        concat(["Haulage", "JobsRetried"], local.own_metrics, [{ label = "to be tried again", stat = "Sum" }]),
        concat(["Haulage", "JobsFailed"], local.own_metrics, [{ label = "failed", stat = "Sum" }]),
      ]
    },
    {
      title = "Errors"
      metrics = concat([
        ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", var.dlq_name, { label = "dead letters", stat = "Maximum" }],
        ["AWS/Events", "TriggeredRules", "RuleName", aws_cloudwatch_event_rule.task_failures.name, { label = "failed tasks", stat = "Sum" }],
        # ThrottledRequests has another line for each operation.
        ["AWS/DynamoDB", "ReadThrottleEvents", "TableName", var.table_name, { label = "throttled reads", stat = "Sum" }],
        ["AWS/DynamoDB", "WriteThrottleEvents", "TableName", var.table_name, { label = "throttled writes", stat = "Sum" }],
      ], local.lambda_errors)
    },
  ], local.cost_widgets)
}

resource "aws_cloudwatch_dashboard" "this" {
  count = var.dashboard ? 1 : 0

  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [for i, widget in local.widgets : {
      type   = "metric"
      x      = 12 * (i % 2)
      y      = 6 * floor(i / 2)
      width  = 12
      height = 6
      properties = {
        title   = widget.title
        region  = data.aws_region.current.region
        stat    = "Average"
        period  = 60
        view    = "timeSeries"
        metrics = widget.metrics
        yAxis   = { left = { min = 0 } }
      }
    }]
  })
}
