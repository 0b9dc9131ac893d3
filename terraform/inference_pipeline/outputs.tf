output "queue_name" {
  description = "Name of the queue."
  value       = module.queue.name
}

output "queue_url" {
  description = "URL of the queue."
  value       = module.queue.url
}

output "queue_arn" {
  description = "ARN of the queue."
  value       = module.queue.arn
}

output "named_queues" {
  description = "The named queues, with the name, url and arn of each in SQS."
  value       = module.queue.named
}

output "dlq_name" {
  description = "Name of the dead-letter queue."
  value       = module.queue.dlq_name
}

output "dlq_url" {
  description = "URL of the dead-letter queue."
  value       = module.queue.dlq_url
}

output "dlq_arn" {
  description = "ARN of the dead-letter queue."
  value       = module.queue.dlq_arn
}

output "table_name" {
  description = "Name of the table of records."
  value       = module.table.name
}

output "table_arn" {
  description = "ARN of the table."
  value       = module.table.arn
}

output "bucket_name" {
  description = "Name of the bucket for large payloads; null where there is none."
  value       = var.payload_bucket ? module.bucket[0].name : null
}

output "bucket_arn" {
  description = "ARN of that bucket."
  value       = var.payload_bucket ? module.bucket[0].arn : null
}

output "haulage_url" {
  description = "HAULAGE_URL for producers and operators."
  value = join("", [
    "sqs://${module.queue.name}?table=${module.table.name}&region=${data.aws_region.current.region}",
    var.payload_bucket ? "&bucket=${module.bucket[0].name}&bucket_owner=${data.aws_caller_identity.current.account_id}" : "",
  ])
}

output "ecr_repository_url" {
  description = "Where to push the image."
  value       = local.repository_url
}

output "policy_arns" {
  description = "IAM policies to attach to roles of yours, by what they allow. submit: send jobs; read: their status and results, and to wait for them; cancel; operate: for people who look after the jobs (list, purge, redrive, doctor)."
  value       = module.access.policy_arns
}

output "consumer_role_arn" {
  description = "IAM role of the tasks: receives jobs, reads and writes records."
  value       = module.worker.consumer_role_arn
}

output "consumer_role_name" {
  description = "Name of that role, to attach what your handler needs."
  value       = module.worker.consumer_role_name
}

output "cluster_name" {
  description = "Name of the ECS cluster."
  value       = module.worker.cluster_name
}

output "cluster_arn" {
  description = "ARN of the ECS cluster."
  value       = module.worker.cluster_arn
}

output "service_name" {
  description = "Name of the ECS service."
  value       = module.worker.service_name
}

output "service_names" {
  description = "Names of all services of the pipeline: that one, and those of more_services."
  value       = local.services[*].name
}

output "scaler_pairs" {
  description = "What is to be scaled, for the variable pairs of the stack scaler."
  value       = local.pairs
}

output "log_group_name" {
  description = "The log group of the tasks."
  value       = module.worker.log_group_name
}

output "security_group_id" {
  description = "The security group of the tasks."
  value       = module.worker.security_group_id
}

output "alarm_names" {
  description = "Names of the alarms."
  value       = concat(var.enable_alarms ? module.alarms[0].alarm_names : [], flatten(module.scaler[*].alarm_names))
}
