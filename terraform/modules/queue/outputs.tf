output "name" {
  description = "Name of the queue, with .fifo if it is one."
  value       = aws_sqs_queue.jobs.name
}

output "url" {
  description = "URL of the queue."
  value       = aws_sqs_queue.jobs.id
}

output "arn" {
  description = "ARN of the queue."
  value       = aws_sqs_queue.jobs.arn
}

output "dlq_url" {
  description = "URL of the dead-letter queue."
  value       = aws_sqs_queue.dead_letters.id
}

output "dlq_name" {
  description = "Name of the dead-letter queue."
  value       = aws_sqs_queue.dead_letters.name
}

output "dlq_arn" {
  description = "ARN of the dead-letter queue."
  value       = aws_sqs_queue.dead_letters.arn
}

output "named" {
  description = "The named queues: name, url and arn in SQS of each."
  value       = { for name, queue in aws_sqs_queue.named : name => { name = queue.name, url = queue.id, arn = queue.arn } }
}
