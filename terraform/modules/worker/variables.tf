variable "name" {
  description = "Name of the cluster, the service and all that belongs to them."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,31}$", var.name)) && !startswith(var.name, "sg-")
    error_message = "The name has 1 to 32 lower-case letters, digits or hyphens, begins with a letter or digit, and not with \"sg-\", which is for ids of security groups."
  }
}

variable "image" {
  description = "The container image, with its tag or digest."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[^\\s]+[:@][^/\\s]+$", var.image))
    error_message = "Give the image with its tag or digest, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com/model:v1."
  }
}

variable "repository_arn" {
  description = "ARN of the ECR repository that the image is in; the tasks may pull from no other."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[^:]+:ecr:", var.repository_arn))
    error_message = "The repository is the ARN of one of ECR, such as arn:aws:ecr:eu-central-1:123456789012:repository/model."
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

variable "queue" {
  description = "The queue and its dead-letter queue."
  type = object({
    name    = string
    arn     = string
    dlq_arn = string
  })
  nullable = false
}

variable "table" {
  description = "The table of records."
  type = object({
    name = string
    arn  = string
  })
  nullable = false
}

variable "bucket" {
  description = "The bucket for large payloads; null where there is none."
  type = object({
    name = string
    arn  = string
  })
  default = null
}

variable "cpu" {
  description = "CPU units of a task; 1024 are one vCPU."
  type        = number
  default     = 1024
  nullable    = false

  validation {
    condition     = var.cpu >= 128 && floor(var.cpu) == var.cpu
    error_message = "CPU units are a whole number from 128; 1024 are one vCPU."
  }
}

variable "memory" {
  description = "Memory of a task, in MiB."
  type        = number
  default     = 4096
  nullable    = false

  validation {
    condition     = var.memory >= 4 && floor(var.memory) == var.memory
    error_message = "Memory is a whole number of MiB; 4096 are 4 GiB."
  }
}

variable "ephemeral_storage_gib" {
  description = "Disk of a task on Fargate, in GiB, image included; null for the 20 that it has anyway. More is paid for by the hour."
  type        = number
  default     = null

  validation {
    condition     = var.ephemeral_storage_gib == null || try(var.capacity_provider == null && var.ephemeral_storage_gib >= 21 && var.ephemeral_storage_gib <= 200 && floor(var.ephemeral_storage_gib) == var.ephemeral_storage_gib, false)
    error_message = "Fargate has disks of 21 to 200 whole GiB, or null for 20; on instances, the disk is the capacity provider's."
  }
}

variable "gpus" {
  description = "GPUs of a task. Fargate has none: they need a capacity provider."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.gpus == 0 || var.capacity_provider != null
    error_message = "Fargate has no GPU: set capacity_provider to one of ECS Managed Instances or EC2 that has."
  }

  validation {
    condition     = var.gpus >= 0 && floor(var.gpus) == var.gpus
    error_message = "GPUs are a whole number from 0."
  }
}

variable "cpu_architecture" {
  description = "X86_64 or ARM64, as the image was built."
  type        = string
  default     = "X86_64"
  nullable    = false

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "The CPU architecture is X86_64 or ARM64."
  }
}

variable "fargate" {
  description = "How tasks are spread over Fargate and Fargate Spot: the first `base` tasks are on demand, the rest by weight. Spot costs about a third; a task is lost now and then, with two minutes of warning."
  type = object({
    base        = optional(number, 0)
    weight      = optional(number, 1)
    spot_weight = optional(number, 0)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.fargate.base >= 0 && var.fargate.weight >= 0 && var.fargate.spot_weight >= 0 && var.fargate.weight + var.fargate.spot_weight > 0
    error_message = "Base and weights are 0 or more, and one of the two weights is above 0."
  }
}

variable "capacity_provider" {
  description = "Name of a capacity provider of ECS Managed Instances or EC2, in place of Fargate. One of Managed Instances belongs to a cluster: make it with cluster = the name of this one, beside this module."
  type        = string
  default     = null

  validation {
    condition     = var.capacity_provider == null || try(can(regex("^[A-Za-z0-9_-]{1,255}$", var.capacity_provider)) && !can(regex("(?i)^(aws|ecs|fargate)", var.capacity_provider)), false)
    error_message = "Give the name of a capacity provider, not its ARN; names do not begin with aws, ecs or fargate. For Fargate it is null."
  }
}

variable "capacity_provider_type" {
  description = "What capacity_provider provides: MANAGED_INSTANCES or EC2."
  type        = string
  default     = "MANAGED_INSTANCES"
  nullable    = false

  validation {
    condition     = contains(["MANAGED_INSTANCES", "EC2"], var.capacity_provider_type)
    error_message = "A capacity provider other than Fargate's provides MANAGED_INSTANCES or EC2."
  }
}

variable "desired_count" {
  description = "Tasks at first. Later applies leave their number alone: autoscaling has the say, or `aws ecs update-service --desired-count`."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.desired_count >= 0 && floor(var.desired_count) == var.desired_count
    error_message = "The number of tasks is a whole number from 0."
  }
}

variable "concurrency" {
  description = "Jobs that a task runs side by side."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.concurrency >= 1 && floor(var.concurrency) == var.concurrency
    error_message = "A task runs at least one job: concurrency is a whole number from 1."
  }
}

variable "lease_seconds" {
  description = "How long a job stays with a task without a heartbeat, in seconds."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.lease_seconds >= 2 && var.lease_seconds <= 21150 && floor(var.lease_seconds) == var.lease_seconds
    error_message = "A lease has 2 to 21150 whole seconds: half of the 11 h 45 min after which a message is handed over."
  }
}

variable "heartbeat_interval" {
  description = "How often a task extends the leases of its jobs, in seconds."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.heartbeat_interval >= 1 && floor(var.heartbeat_interval) == var.heartbeat_interval
    error_message = "The heartbeat interval is a whole number of seconds, from 1."
  }
}

variable "scale_in_protection" {
  description = "Whether a task that works is protected from scale-in and deployments."
  type        = bool
  default     = true
  nullable    = false
}

variable "command" {
  description = "Command of the container, in place of the image's."
  type        = list(string)
  default     = null
}

variable "environment" {
  description = "More environment variables of the container."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "health_check_command" {
  description = "Command that ECS runs in the container to see whether it is well: [\"CMD\", \"haulage\", \"health\"] where a worker of Haulage runs and the program or the Python package is on the PATH. Null for none."
  type        = list(string)
  default     = null

  validation {
    condition     = var.health_check_command == null || contains(["CMD", "CMD-SHELL"], try(var.health_check_command[0], ""))
    error_message = "A health check command begins with CMD (a program and its arguments) or CMD-SHELL (one line for a shell)."
  }
}

variable "health_check_start_period" {
  description = "Seconds after the start of a container during which failed health checks do not count. A worker of Haulage answers from its start, while it loads a model, too; a container with another server may take longer."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.health_check_start_period >= 0 && var.health_check_start_period <= 300 && floor(var.health_check_start_period) == var.health_check_start_period
    error_message = "The start period of a health check is a whole number of seconds from 0 to 300, the most that ECS takes."
  }
}

variable "rollback" {
  description = "Whether a deployment that fails goes back to the last one that worked."
  type        = bool
  default     = true
  nullable    = false
}

variable "wait_for_steady_state" {
  description = "Whether an apply waits until the tasks run."
  type        = bool
  default     = false
  nullable    = false
}

variable "log_retention_days" {
  description = "For how long logs are kept, in days."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "permissions_boundary" {
  description = "ARN of a policy beyond which no role that is made here can go; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:[^:]+:iam::([0-9]{12}|aws):policy/", var.permissions_boundary))
    error_message = "A permissions boundary is the ARN of a policy, such as arn:aws:iam::123456789012:policy/boundary."
  }
}

variable "iam_path" {
  description = "The path of the roles and policies that are made here."
  type        = string
  default     = "/"
  nullable    = false

  validation {
    condition     = can(regex("^/([!-.0-~]+/)*$", var.iam_path))
    error_message = "A path begins and ends with a slash, such as /pipelines/."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
