output "lambda_name" {
  description = "Name of the Lambda that computes the metrics."
  value       = aws_lambda_function.autoscale.function_name
}

output "namespace" {
  description = "The CloudWatch namespace of the metrics."
  value       = local.namespace
}

output "dimensions" {
  description = "The dimensions of the metrics."
  value       = local.dimensions
}
