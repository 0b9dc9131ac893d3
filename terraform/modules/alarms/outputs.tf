output "alarm_names" {
  description = "Names of the alarms."
  value = [
    aws_cloudwatch_metric_alarm.dead_letters.alarm_name,
    aws_cloudwatch_metric_alarm.oldest_job.alarm_name,
    aws_cloudwatch_metric_alarm.retention.alarm_name,
    aws_cloudwatch_metric_alarm.no_progress.alarm_name,
    aws_cloudwatch_metric_alarm.task_failures.alarm_name,
  ]
}
