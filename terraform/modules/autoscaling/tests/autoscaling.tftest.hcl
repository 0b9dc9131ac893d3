mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/made-up" }
  }
  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:made-up" }
  }
  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/made-up" }
  }
  mock_resource "aws_appautoscaling_policy" {
    defaults = { arn = "arn:aws:autoscaling:eu-central-1:123456789012:scalingPolicy:made-up" }
  }
}

variables {
  name           = "jobs"
  cluster_name   = "jobs"
  service_name   = "jobs"
  service_arn    = "arn:aws:ecs:eu-central-1:123456789012:service/jobs/jobs"
  queue          = { name = "jobs.fifo", url = "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs.fifo", arn = "arn:aws:sqs:eu-central-1:123456789012:jobs.fifo" }
  lambda_package = "../../inference_pipeline/tests/package.zip"
}

run "the_lambda_sets_the_count_and_nothing_else_does" {
  variables {
    min_capacity            = 0
    max_capacity            = 700
    scale_in_window_seconds = 45
  }
  assert {
    condition     = length(aws_appautoscaling_target.service) + length(aws_appautoscaling_policy.scale_out) + length(aws_appautoscaling_policy.tracking) + length(aws_appautoscaling_policy.scale_in) + length(aws_cloudwatch_metric_alarm.scale_out) + length(aws_cloudwatch_metric_alarm.scale_in) == 0
    error_message = "Two who scale would undo what the other does."
  }
  assert {
    condition     = jsondecode(aws_cloudwatch_event_target.lambda.input).pairs[0].direct == { min_tasks = 0, max_tasks = 700, scale_in_window_seconds = 45 }
    error_message = "It is told within which bounds, and for how long to keep what is not needed."
  }
  assert {
    condition     = [for statement in data.aws_iam_policy_document.lambda.statement : statement.resources if contains(statement.actions, "ecs:UpdateService")] == [toset([var.service_arn])]
    error_message = "It may change its service, and no other."
  }
}

run "leaves_zero_at_the_first_data_point" {
  variables {
    scaler       = "alarms"
    min_capacity = 0
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.scale_out[0].evaluation_periods == 1 && aws_cloudwatch_metric_alarm.scale_out[0].period == 10
    error_message = "Target tracking would need three minutes, and never leave zero."
  }
  assert {
    condition     = aws_appautoscaling_policy.scale_out[0].step_scaling_policy_configuration[0].adjustment_type == "ExactCapacity"
    error_message = "A percentage of nothing is nothing."
  }
  assert {
    condition     = aws_appautoscaling_policy.tracking[0].target_tracking_scaling_policy_configuration[0].target_value == 100
    error_message = "Demand is held at what is there."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.scale_out[0].treat_missing_data == "notBreaching" && aws_cloudwatch_metric_alarm.scale_in[0].treat_missing_data == "notBreaching"
    error_message = "A Lambda that fails moves nothing."
  }
}

run "goes_back_by_exact_capacities" {
  variables {
    scaler = "alarms"
  }
  assert {
    condition     = aws_appautoscaling_policy.scale_in[0].step_scaling_policy_configuration[0].adjustment_type == "ExactCapacity"
    error_message = "A percentage would be one of the tasks that run, and not of those that are desired."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.scale_in[0].statistic == "Maximum" && aws_cloudwatch_metric_alarm.scale_in[0].period == 120
    error_message = "What was required in any sample of two minutes is kept."
  }
  assert {
    condition     = contains([for step in aws_appautoscaling_policy.scale_in[0].step_scaling_policy_configuration[0].step_adjustment : step.scaling_adjustment], 0)
    error_message = "To nothing at once, where nothing is to be done."
  }
  assert {
    condition     = aws_appautoscaling_policy.tracking[0].target_tracking_scaling_policy_configuration[0].customized_metric_specification[0].statistic == "Minimum"
    error_message = "An average of samples from before and after a step would multiply what the step made."
  }
}

run "alarms_do_it_alone" {
  variables {
    scaler = "alarms"
  }
  assert {
    condition     = jsondecode(aws_cloudwatch_event_target.lambda.input).pairs[0].direct == null
    error_message = "Two who scale would undo what the other does."
  }
  assert {
    condition     = length([for statement in data.aws_iam_policy_document.lambda.statement : statement if contains(statement.actions, "ecs:UpdateService")]) == 0
    error_message = "The account may not grant it."
  }
}

run "the_lambda_has_what_it_needs" {
  assert {
    condition     = aws_lambda_function.autoscale.runtime == "provided.al2023" && aws_lambda_function.autoscale.architectures == tolist(["arm64"]) && aws_lambda_function.autoscale.timeout < 60
    error_message = "A Rust program on arm64 that ends within its minute."
  }
  assert {
    condition     = jsondecode(aws_cloudwatch_event_target.lambda.input).pairs[0].queue_url == var.queue.url
    error_message = "It is told which queue to look at."
  }
}

run "refused" {
  command = plan
  variables {
    invocation_interval    = "rate(5 minutes)"
    slots_per_task         = 0
    log_retention_days     = 31
    samples_per_minute     = 5
    min_capacity           = 5
    max_capacity           = 3
    job_seconds            = 0
    backlog_target_seconds = -1
    scaler                 = "both"
    lambda_architecture    = "x86"
  }
  expect_failures = [
    var.invocation_interval, var.samples_per_minute, var.max_capacity, var.job_seconds, var.backlog_target_seconds,
    var.scaler, var.lambda_architecture, var.slots_per_task, var.log_retention_days,
  ]
}

run "refused_as_a_window" {
  command = plan
  variables {
    scale_in_window_seconds = 29
  }
  expect_failures = [var.scale_in_window_seconds]
}

run "alarms_count_minutes" {
  command = plan
  variables {
    scaler                  = "alarms"
    scale_in_window_seconds = 90
  }
  expect_failures = [var.scale_in_window_seconds]
}

run "one_sample_a_minute_is_refused" {
  command = plan
  variables {
    samples_per_minute = 1
  }
  expect_failures = [var.samples_per_minute]
}

run "refused_beyond_what_the_lambda_takes" {
  command = plan
  variables {
    job_seconds            = 1e10
    backlog_target_seconds = 1e10
  }
  expect_failures = [var.job_seconds, var.backlog_target_seconds]
}

run "refused_without_a_package" {
  command = plan
  variables {
    lambda_package = "nothing.zip"
  }
  # The path is looked at in the validation; that it is missing is also an
  # error of the function that reads it.
  expect_failures = [var.lambda_package]
}
