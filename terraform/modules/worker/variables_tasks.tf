# The tasks, and the service that runs them.

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

variable "keep_successes" {
  description = "Whether results are written so that the earlier package of `Consumer` and `Producer` can read them: without a time at which DynamoDB deletes them."
  type        = bool
  default     = false
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

variable "health_check" {
  description = "How ECS sees in the container whether it is well. command: [\"CMD\", \"haulage\", \"health\"] where a worker of Haulage runs and the program or the Python package is on the PATH; start_period: seconds after the start during which failed checks do not count. A worker answers from its start, while it loads a model, too; a container with another server may take longer. Null for none."
  type = object({
    command      = list(string)
    start_period = optional(number, 120)
  })
  default = null

  validation {
    condition     = var.health_check == null || contains(["CMD", "CMD-SHELL"], try(var.health_check.command[0], ""))
    error_message = "A health check command begins with CMD (a program and its arguments) or CMD-SHELL (one line for a shell)."
  }

  validation {
    condition     = var.health_check == null || try(var.health_check.start_period >= 0 && var.health_check.start_period <= 300 && floor(var.health_check.start_period) == var.health_check.start_period, false)
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
