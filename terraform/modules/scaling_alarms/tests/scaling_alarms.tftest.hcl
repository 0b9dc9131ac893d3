mock_provider "aws" {
  mock_resource "aws_appautoscaling_policy" {
    defaults = { arn = "arn:aws:autoscaling:eu-central-1:123456789012:scalingPolicy:made-up" }
  }
}

variables {
  name         = "jobs"
  cluster_name = "jobs"
  service_name = "jobs"
  queue_name   = "jobs.fifo"
}

run "leaves_zero_at_the_first_data_point" {
  variables {
    min_capacity = 0
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.scale_out.evaluation_periods == 1 && aws_cloudwatch_metric_alarm.scale_out.period == 10
    error_message = "Target tracking would need three minutes, and never leave zero."
  }
  assert {
    condition     = aws_appautoscaling_policy.scale_out.step_scaling_policy_configuration[0].adjustment_type == "ExactCapacity"
    error_message = "A percentage of nothing is nothing."
  }
  assert {
    condition     = aws_appautoscaling_policy.tracking.target_tracking_scaling_policy_configuration[0].target_value == 100
    error_message = "Demand is held at what is there."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.scale_out.treat_missing_data == "notBreaching" && aws_cloudwatch_metric_alarm.scale_in.treat_missing_data == "notBreaching"
    error_message = "A Lambda that fails moves nothing."
  }
}

run "goes_back_by_exact_capacities" {
  assert {
    condition     = aws_appautoscaling_policy.scale_in.step_scaling_policy_configuration[0].adjustment_type == "ExactCapacity"
    error_message = "A percentage would be one of the tasks that run, and not of those that are desired."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.scale_in.statistic == "Maximum" && aws_cloudwatch_metric_alarm.scale_in.period == 120
    error_message = "What was required in any sample of two minutes is kept."
  }
  assert {
    condition     = contains([for step in aws_appautoscaling_policy.scale_in.step_scaling_policy_configuration[0].step_adjustment : step.scaling_adjustment], 0)
    error_message = "To nothing at once, where nothing is to be done."
  }
  assert {
    condition     = aws_appautoscaling_policy.tracking.target_tracking_scaling_policy_configuration[0].customized_metric_specification[0].statistic == "Minimum"
    error_message = "An average of samples from before and after a step would multiply what the step made."
  }
}

run "refused" {
  command = plan
  variables {
    min_capacity            = 5
    max_capacity            = 3
    scale_in_window_seconds = 90
  }
  expect_failures = [var.max_capacity, var.scale_in_window_seconds]
}
