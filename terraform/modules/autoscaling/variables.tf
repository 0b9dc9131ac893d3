variable "name" {
  description = "What the names of the resources begin with."
  type        = string
}

variable "cluster_name" {
  description = "Name of the ECS cluster."
  type        = string
}

variable "service_name" {
  description = "Name of the ECS service."
  type        = string
}

variable "service_arn" {
  description = "ARN of the ECS service."
  type        = string
}

variable "queue" {
  description = "The queue that the service works off."
  type = object({
    name = string
    url  = string
    arn  = string
  })
}

variable "lambda_package" {
  description = "Path of the zip with the program that computes the metrics; `make lambda` builds it."
  type        = string

  validation {
    condition     = fileexists(var.lambda_package)
    error_message = "There is no file at lambda_package; it is the zip of the scaling Lambda, which `make lambda` builds."
  }
}

variable "lambda_architecture" {
  description = "arm64 or x86_64, as lambda_package was built for."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.lambda_architecture)
    error_message = "The architecture of the Lambda is arm64 or x86_64."
  }
}

variable "invocation_interval" {
  description = "How often the Lambda runs: a rate or cron expression of EventBridge."
  type        = string
  default     = "rate(1 minute)"

  validation {
    condition     = can(regex("^(rate\\((1 (minute|hour|day)|([2-9]|[1-9][0-9]+) (minutes|hours|days))\\)|cron\\(.+\\))$", var.invocation_interval))
    error_message = "The interval is an EventBridge schedule, such as rate(1 minute), rate(5 minutes) or cron(...); it is singular for 1 only."
  }
}

variable "looks_per_minute" {
  description = "How often the Lambda looks at the queue while it runs. More looks start tasks sooner, and are paid for as the Lambda's time."
  type        = number
  default     = 4

  validation {
    condition     = contains([1, 2, 3, 4, 6], var.looks_per_minute)
    error_message = "The Lambda looks 1, 2, 3, 4 or 6 times a minute."
  }
}

variable "min_capacity" {
  description = "The fewest tasks. With 0, nothing is paid for while nothing is to be done, and the first job waits for a task to start."
  type        = number
  default     = 1

  validation {
    condition     = var.min_capacity >= 0 && floor(var.min_capacity) == var.min_capacity
    error_message = "The minimum capacity is a whole number from 0."
  }
}

variable "max_capacity" {
  description = "The most tasks."
  type        = number
  default     = 10

  validation {
    condition     = var.max_capacity >= 1 && var.max_capacity >= var.min_capacity && floor(var.max_capacity) == var.max_capacity
    error_message = "The maximum capacity is a whole number, at least 1 and at least the minimum capacity."
  }
}

variable "slots_per_task" {
  description = "Jobs that a task runs side by side."
  type        = number
  default     = 1
}

variable "job_seconds" {
  description = "How long a job takes, in seconds: an estimate, until the tasks have measured it."
  type        = number
  default     = 60

  validation {
    condition     = var.job_seconds > 0
    error_message = "A job takes more than 0 seconds."
  }
}

variable "backlog_target_seconds" {
  description = "Within how many seconds a backlog is to be drained. Less means more tasks and less waiting; below the time of one job it makes no difference."
  type        = number
  default     = 60

  validation {
    condition     = var.backlog_target_seconds > 0
    error_message = "The backlog target is more than 0 seconds; `haulage simulate` shows what it does."
  }
}

variable "scale_in_minutes" {
  description = "For how many minutes capacity has to be needless before it is given back."
  type        = number
  default     = 2

  validation {
    condition     = var.scale_in_minutes >= 1 && var.scale_in_minutes <= 60 && floor(var.scale_in_minutes) == var.scale_in_minutes
    error_message = "Scale-in waits for 1 to 60 whole minutes."
  }
}

variable "log_retention_days" {
  description = "For how long the Lambda's logs are kept, in days."
  type        = number
  default     = 30
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
