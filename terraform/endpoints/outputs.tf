output "vpc_endpoints" {
  description = "Ids of the endpoints that are made, by their names; a pipeline needs vpc_endpoints.sqs."
  value       = module.endpoints.vpc_endpoints
}

output "subnet_ids" {
  description = "The subnets, for the pipelines."
  value       = module.endpoints.subnet_ids
}

output "security_group_id" {
  description = "The security group of the interface endpoints. An endpoint that the VPC had already needs it besides its own, or tasks do not reach it."
  value       = module.endpoints.security_group_id
}
