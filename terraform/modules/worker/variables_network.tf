# Where the tasks are, and where they can go.

variable "vpc_id" {
  description = "The VPC."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "A VPC id looks like vpc-0123456789abcdef0."
  }
}

variable "subnet_ids" {
  description = "The private subnets in which the tasks run."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) > 0 && alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "Give at least one subnet; an id looks like subnet-0123456789abcdef0."
  }
}

variable "use_vpc_endpoints" {
  description = "Whether the tasks go out through endpoints of the VPC, and nowhere else. Otherwise they reach all that speaks HTTPS, by the routes of their subnets."
  type        = bool
  default     = true
  nullable    = false
}

variable "endpoint_security_group_id" {
  description = "The security group of the VPC's interface endpoints, where they are used; the tasks are let in."
  type        = string
  default     = null

  validation {
    condition     = var.endpoint_security_group_id == null || can(regex("^sg-[0-9a-f]+$", var.endpoint_security_group_id))
    error_message = "A security group id looks like sg-0123456789abcdef0."
  }

  validation {
    condition     = !var.use_vpc_endpoints || try(var.endpoint_security_group_id != null, true)
    error_message = "Give the security group of the endpoints, or use_vpc_endpoints = false."
  }
}

variable "assign_public_ip" {
  description = "Whether a task gets a public address, which it needs in a public subnet without endpoints."
  type        = bool
  default     = false
  nullable    = false
}

variable "egress_rules" {
  description = "Where else the tasks may go, by a name of the rule: cidr_blocks, ipv6_cidr_blocks or a security_group_id; protocol, from_port, to_port."
  type = map(object({
    cidr_blocks       = optional(list(string))
    ipv6_cidr_blocks  = optional(list(string))
    security_group_id = optional(string)
    protocol          = optional(string, "tcp")
    from_port         = number
    to_port           = optional(number)
  }))
  default  = {}
  nullable = false

  validation {
    condition = alltrue([
      for rule in var.egress_rules : (rule.security_group_id == null) != (
        try(length(rule.cidr_blocks), 0) + try(length(rule.ipv6_cidr_blocks), 0) == 0
      )
    ])
    error_message = "Each of egress_rules has either blocks of addresses (cidr_blocks, ipv6_cidr_blocks) or a security_group_id."
  }

  validation {
    condition     = alltrue([for rule in var.egress_rules : rule.from_port >= 0 && coalesce(rule.to_port, rule.from_port) >= rule.from_port && coalesce(rule.to_port, rule.from_port) <= 65535])
    error_message = "The ports of each of egress_rules are 0 to 65535, from_port the lower one."
  }
}

variable "security_group_ids" {
  description = "Further security groups of the tasks."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.security_group_ids) <= 4
    error_message = "A task has 5 security groups at most (Amazon ECS), and one is made here: give 4 or fewer."
  }
}

variable "gateway_prefix_list_ids" {
  description = "The prefix lists of S3 and DynamoDB, to which the tasks may go out."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.gateway_prefix_list_ids) > 0
    error_message = "Give the prefix lists of S3 and DynamoDB: image layers, payloads and records are there."
  }
}
