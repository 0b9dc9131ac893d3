output "vpc_endpoints" {
  description = "Ids of the endpoints that are made, by their names."
  value = merge(
    { for name, endpoint in aws_vpc_endpoint.interface : name => endpoint.id },
    { for name, endpoint in aws_vpc_endpoint.gateway : name => endpoint.id },
  )
}

output "security_group_id" {
  description = "The security group of the interface endpoints."
  value       = aws_security_group.endpoints.id
}

output "subnet_ids" {
  description = "The subnets in which the endpoints, and so the tasks, are."
  value       = var.subnet_ids
}
