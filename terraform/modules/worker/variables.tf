variable "name" {
  description = "Name of the cluster, the service and all that belongs to them."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,31}$", var.name))
    error_message = "The name has 1 to 32 lower-case letters, digits or hyphens, and begins with a letter or digit."
  }
}

variable "image" {
  description = "The container image, with its tag or digest."
  type        = string

  validation {
    condition     = can(regex("^[^\\s]+[:@][^/\\s]+$", var.image))
    error_message = "Give the image with its tag or digest, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com/model:v1."
  }
}

variable "repository_arn" {
  description = "ARN of the ECR repository that the image is in; the tasks may pull from no other."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "The private subnets in which the tasks run."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "Give at least one subnet."
  }
}

variable "endpoint_security_group_id" {
  description = "The security group of the VPC's interface endpoints; the tasks are let in."
  type        = string
}

variable "gateway_prefix_list_ids" {
  description = "The prefix lists of S3 and DynamoDB, to which the tasks may go out."
  type        = list(string)
}

variable "queue" {
  description = "The queue and its dead-letter queue."
  type = object({
    name    = string
    arn     = string
    dlq_arn = string
  })
}

variable "table" {
  description = "The table of records."
  type = object({
    name = string
    arn  = string
  })
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
}

variable "memory" {
  description = "Memory of a task, in MiB."
  type        = number
  default     = 4096
}

variable "gpus" {
  description = "GPUs of a task. Fargate has none: they need a capacity provider."
  type        = number
  default     = 0

  validation {
    condition     = var.gpus == 0 || var.capacity_provider != null
    error_message = "Fargate has no GPU: set capacity_provider to one of ECS Managed Instances or EC2 that has."
  }
}

variable "cpu_architecture" {
  description = "X86_64 or ARM64, as the image was built."
  type        = string
  default     = "X86_64"

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
  default = {}

  validation {
    condition     = var.fargate.base >= 0 && var.fargate.weight >= 0 && var.fargate.spot_weight >= 0 && var.fargate.weight + var.fargate.spot_weight > 0
    error_message = "Base and weights are 0 or more, and one of the two weights is above 0."
  }
}

variable "capacity_provider" {
  description = "Name of a capacity provider of ECS Managed Instances or EC2, in place of Fargate; it has to be there already."
  type        = string
  default     = null
}

variable "capacity_provider_type" {
  description = "What capacity_provider provides: MANAGED_INSTANCES or EC2."
  type        = string
  default     = "MANAGED_INSTANCES"

  validation {
    condition     = contains(["MANAGED_INSTANCES", "EC2"], var.capacity_provider_type)
    error_message = "A capacity provider other than Fargate's provides MANAGED_INSTANCES or EC2."
  }
}

variable "desired_count" {
  description = "Tasks at first; from then on autoscaling has the say."
  type        = number
  default     = 1
}

variable "concurrency" {
  description = "Jobs that a task runs side by side."
  type        = number
  default     = 1

  validation {
    condition     = var.concurrency >= 1 && floor(var.concurrency) == var.concurrency
    error_message = "A task runs at least one job: concurrency is a whole number from 1."
  }
}

variable "lease_seconds" {
  description = "How long a job stays with a task without a heartbeat, in seconds."
  type        = number
  default     = 30
}

variable "heartbeat_interval" {
  description = "How often a task extends the leases of its jobs, in seconds."
  type        = number
  default     = 10
}

variable "scale_in_protection" {
  description = "Whether a task that works is protected from scale-in and deployments."
  type        = bool
  default     = true
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

variable "rollback" {
  description = "Whether a deployment that fails goes back to the last one that worked."
  type        = bool
  default     = true
}

variable "wait_for_steady_state" {
  description = "Whether an apply waits until the tasks run."
  type        = bool
  default     = false
}

variable "log_retention_days" {
  description = "For how long logs are kept, in days."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
