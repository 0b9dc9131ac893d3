output "lambda_name" {
  description = "Name of the scaling Lambda."
  value       = aws_lambda_function.autoscale.function_name
}
