output "cluster_name" {
  description = "Name of the cluster."
  value       = local.cluster_name
}

output "cluster_arn" {
  description = "ARN of the cluster."
  value       = local.cluster_arn

  # A service in it has to find its capacity provider there.
  depends_on = [aws_ecs_cluster_capacity_providers.this]
}

output "service_name" {
  description = "Name of the service."
  value       = aws_ecs_service.worker.name
}

output "log_group_name" {
  description = "The log group of the tasks."
  value       = aws_cloudwatch_log_group.worker.name
}

output "consumer_role_arn" {
  description = "The role of the tasks."
  value       = aws_iam_role.consumer.arn
}

output "consumer_role_name" {
  description = "Name of the role of the tasks, to attach more policies to."
  value       = aws_iam_role.consumer.name
}

output "security_group_id" {
  description = "The security group of the tasks."
  value       = aws_security_group.worker.id
}
