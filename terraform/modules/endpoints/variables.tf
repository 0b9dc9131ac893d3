variable "name" {
  description = "What the names of the endpoints begin with."
  type        = string
  default     = "haulage"
}

variable "vpc_id" {
  description = "The VPC."
  type        = string

  validation {
    condition     = can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "A VPC id looks like vpc-0123456789abcdef0."
  }
}

variable "subnet_ids" {
  description = "The private subnets in which the tasks run, one in each availability zone. Each interface endpoint is paid for in each of them."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) > 0 && alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "Give at least one subnet; an id looks like subnet-0123456789abcdef0."
  }
}

variable "route_table_ids" {
  description = "The route tables of these subnets, which get routes to S3 and DynamoDB. By default all route tables of the VPC."
  type        = list(string)
  default     = null
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
