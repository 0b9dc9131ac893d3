output "name" {
  description = "Name of the table."
  value       = aws_dynamodb_table.records.name
}

output "arn" {
  description = "ARN of the table."
  value       = aws_dynamodb_table.records.arn
}

output "stream_arn" {
  description = "ARN of the stream of its changes; null where there is none."
  value       = var.stream ? aws_dynamodb_table.records.stream_arn : null
}
