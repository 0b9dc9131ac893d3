output "alarm_names" {
  description = "Names of the alarms that tell the topic."
  value = concat(
    [
      aws_cloudwatch_metric_alarm.dead_letters.alarm_name,
      local.no_progress.name,
      aws_cloudwatch_metric_alarm.task_failures.alarm_name,
    ],
    [for alarm in aws_cloudwatch_metric_alarm.oldest_job : alarm.alarm_name],
    [for alarm in aws_cloudwatch_metric_alarm.retention : alarm.alarm_name],
  )
}
