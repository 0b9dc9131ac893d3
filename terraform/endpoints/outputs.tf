output "vpc_endpoints" {
  description = "Ids of the endpoints; a pipeline needs vpc_endpoints.sqs."
  value       = module.endpoints.vpc_endpoints
}

output "subnet_ids" {
  description = "The subnets, for the pipelines."
  value       = module.endpoints.subnet_ids
}

output "security_group_id" {
  description = "The security group of the interface endpoints."
  value       = module.endpoints.security_group_id
}
