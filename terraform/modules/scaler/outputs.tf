output "lambda_name" {
  description = "Name of the scaling Lambda."
  value       = aws_lambda_function.autoscale.function_name
}

output "alarm_names" {
  description = "Names of its alarms."
  value = concat(
    aws_cloudwatch_metric_alarm.lambda_errors[*].alarm_name, aws_cloudwatch_metric_alarm.lambda_silent[*].alarm_name,
  )
}
