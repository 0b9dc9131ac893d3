variable "name" {
  description = "What the names of the endpoints begin with."
  type        = string
  default     = "haulage"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", var.name)) && !startswith(var.name, "sg-")
    error_message = "The name has 1 to 64 letters, digits, hyphens or underscores, and does not begin with \"sg-\", which is for ids."
  }
}

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
  description = "The private subnets in which the tasks run, one in each availability zone. Each interface endpoint is paid for in each of them."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) > 0 && alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "Give at least one subnet; an id looks like subnet-0123456789abcdef0."
  }
}

variable "route_table_ids" {
  description = "The route tables of these subnets, which get routes to S3 and DynamoDB. By default all route tables of the VPC, those of public subnets as well."
  type        = list(string)
  default     = null

  validation {
    condition     = var.route_table_ids == null || try(length(var.route_table_ids) > 0 && alltrue([for id in var.route_table_ids : can(regex("^rtb-[0-9a-f]+$", id))]), false)
    error_message = "Give at least one route table, or null for all of the VPC; an id looks like rtb-0123456789abcdef0."
  }
}

variable "endpoints" {
  description = "The endpoints to make. Leave out what the VPC has already; add ecs, ecs_agent and ecs_telemetry where tasks run on instances, and in regions that were opened since December 2023; secretsmanager or ssm where they have secrets, and ssmmessages for enable_execute_command."
  type        = set(string)
  default     = ["ecr_api", "ecr_dkr", "logs", "sqs", "monitoring", "s3", "dynamodb"]
  nullable    = false

  validation {
    condition     = length(setsubtract(var.endpoints, ["ecr_api", "ecr_dkr", "logs", "sqs", "monitoring", "ecs", "ecs_agent", "ecs_telemetry", "secretsmanager", "ssm", "ssmmessages", "s3", "dynamodb"])) == 0
    error_message = "Endpoints are some of ecr_api, ecr_dkr, logs, sqs, monitoring, s3 and dynamodb, for tasks on instances ecs, ecs_agent and ecs_telemetry, for secrets secretsmanager and ssm, and for a shell in tasks ssmmessages."
  }
}

variable "client_security_groups" {
  description = "Who else in the VPC uses the interface endpoints, besides the tasks: security group ids by names of your choice, such as { web = \"sg-0123456789abcdef0\" }. Producers, and instances of ECS, belong here: without, they are cut off from these services."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for id in values(var.client_security_groups) : can(regex("^sg-[0-9a-f]+$", id))])
    error_message = "Client security groups are ids by names, such as { web = \"sg-0123456789abcdef0\" }."
  }
}

variable "only_accounts" {
  description = "Whose principals and resources may be reached through the endpoints, besides those of this account: ids of accounts, such as one that has images; [] for none. So a task takes nothing out to a bucket or queue of somebody else. Null for no such policy."
  type        = list(string)
  default     = null

  validation {
    condition     = var.only_accounts == null || alltrue([for id in coalesce(var.only_accounts, []) : can(regex("^[0-9]{12}$", id))])
    error_message = "Accounts are ids of 12 digits, such as [\"210987654321\"], or [] for this account alone."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
