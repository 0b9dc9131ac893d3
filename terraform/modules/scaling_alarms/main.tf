# A service follows its queue by alarms and scaling policies, on the metrics that
# the Lambda of modules/scaler puts: docs/scaling.md says how.

locals {
  namespace = "Haulage"
  dimensions = {
    ClusterName = var.cluster_name
    ServiceName = var.service_name
    QueueName   = var.queue_name
  }

  # The capacities to go out to: the largest that is not above what is
  # required. A policy has 20 steps at most.
  scale_out = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 25, 32, 40, 50, 80, 125, 200]
  # And those to go back to: the smallest that is enough.
  scale_in = [0, 1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 28, 40, 56, 80, 115, 165, 240, 350, 500]

  # The bounds of a step count from the threshold of its alarm.
  scale_out_threshold = 1
  scale_out_steps = [for i, tasks in local.scale_out : {
    lower = tasks - local.scale_out_threshold
    upper = i + 1 < length(local.scale_out) ? local.scale_out[min(i + 1, length(local.scale_out) - 1)] - local.scale_out_threshold : null
    tasks = tasks
  }]
  scale_in_threshold = max(local.scale_in...)
  scale_in_steps = [for i, tasks in local.scale_in : {
    lower = i > 0 ? local.scale_in[max(i - 1, 0)] - local.scale_in_threshold : null
    upper = tasks - local.scale_in_threshold
    tasks = tasks
  }]
}

resource "aws_appautoscaling_target" "service" {
  service_namespace  = "ecs"
  resource_id        = "service/${var.cluster_name}/${var.service_name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.min_capacity
  max_capacity       = var.max_capacity
  tags               = var.tags
}

# Out, from zero too, as soon as one data point asks for it. It sets a
# capacity, and does not add to one: to act twice on the same data does no harm.
resource "aws_appautoscaling_policy" "scale_out" {
  name               = "${var.name}-scale-out"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.service.service_namespace
  resource_id        = aws_appautoscaling_target.service.resource_id
  scalable_dimension = aws_appautoscaling_target.service.scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type         = "ExactCapacity"
    metric_aggregation_type = "Maximum"
    cooldown                = 0

    dynamic "step_adjustment" {
      for_each = local.scale_out_steps

      content {
        scaling_adjustment          = step_adjustment.value.tasks
        metric_interval_lower_bound = step_adjustment.value.lower
        metric_interval_upper_bound = step_adjustment.value.upper
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "scale_out" {
  alarm_name          = "${var.name}-scale-out"
  alarm_description   = "More tasks are required than desired. Not a fault: it scales ${var.service_name} out."
  namespace           = local.namespace
  metric_name         = "ScaleOutTo"
  dimensions          = local.dimensions
  statistic           = "Maximum"
  period              = 10 # The metric is of high resolution.
  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = local.scale_out_threshold
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_appautoscaling_policy.scale_out.arn]
  tags                = var.tags
}

# What is between the steps, and above the last. It multiplies, so it goes by
# the lowest value of a minute: an average would hold looks from before a step.
resource "aws_appautoscaling_policy" "tracking" {
  name               = "${var.name}-capacity-demand"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.service.service_namespace
  resource_id        = aws_appautoscaling_target.service.resource_id
  scalable_dimension = aws_appautoscaling_target.service.scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value       = 100
    disable_scale_in   = true
    scale_out_cooldown = 300

    customized_metric_specification {
      namespace   = local.namespace
      metric_name = "CapacityDemand"
      statistic   = "Minimum"
      unit        = "Percent"

      dynamic "dimensions" {
        for_each = local.dimensions

        content {
          name  = dimensions.key
          value = dimensions.value
        }
      }
    }
  }
}

# Back, to the most that was required in some minutes. It sets a capacity, too:
# a percentage would be one of the tasks that run, whatever is desired. A task
# that works is protected, and goes when its job is done.
resource "aws_appautoscaling_policy" "scale_in" {
  name               = "${var.name}-scale-in"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.service.service_namespace
  resource_id        = aws_appautoscaling_target.service.resource_id
  scalable_dimension = aws_appautoscaling_target.service.scalable_dimension

  step_scaling_policy_configuration {
    adjustment_type         = "ExactCapacity"
    metric_aggregation_type = "Maximum"
    cooldown                = 0

    dynamic "step_adjustment" {
      for_each = local.scale_in_steps

      content {
        scaling_adjustment          = step_adjustment.value.tasks
        metric_interval_lower_bound = step_adjustment.value.lower
        metric_interval_upper_bound = step_adjustment.value.upper
      }
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "scale_in" {
  alarm_name          = "${var.name}-scale-in"
  alarm_description   = "Fewer tasks are required than desired. Not a fault: it scales ${var.service_name} in, and stays on while it idles at its minimum of one task or more."
  namespace           = local.namespace
  metric_name         = "ScaleInTo"
  dimensions          = local.dimensions
  statistic           = "Maximum"
  period              = var.scale_in_window_seconds
  evaluation_periods  = 1
  comparison_operator = "LessThanOrEqualToThreshold"
  threshold           = local.scale_in_threshold
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_appautoscaling_policy.scale_in.arn]
  tags                = var.tags
}
