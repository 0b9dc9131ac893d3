output "lambda_name" {
  description = "Name of the Lambda that computes the metrics."
  value       = aws_lambda_function.autoscale.function_name
}
