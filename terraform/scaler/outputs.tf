output "lambda_name" {
  description = "Name of the Lambda; its log group is /aws/lambda/ and that."
  value       = module.scaler.lambda_name
}

output "alarm_names" {
  description = "Names of its alarms."
  value       = module.scaler.alarm_names
}
