variable "name" {
  description = "What the names of the resources begin with."
  type        = string
  nullable    = false
}

variable "cluster_name" {
  description = "Name of the ECS cluster."
  type        = string
  nullable    = false
}

variable "service_name" {
  description = "Name of the ECS service."
  type        = string
  nullable    = false
}

variable "service_arn" {
  description = "ARN of the ECS service."
  type        = string
  nullable    = false
}

variable "queue" {
  description = "The queue that the service works off."
  type = object({
    name = string
    url  = string
    arn  = string
  })
  nullable = false
}

variable "lambda_package" {
  description = "Path of the zip of the scaling Lambda; `make lambda` builds it."
  type        = string
  nullable    = false

  validation {
    condition     = fileexists(var.lambda_package)
    error_message = "There is no file at lambda_package; it is the zip of the scaling Lambda, which `make lambda` builds."
  }
}

variable "lambda_architecture" {
  description = "arm64 or x86_64, as lambda_package was built for."
  type        = string
  default     = "arm64"
  nullable    = false

  validation {
    condition     = contains(["arm64", "x86_64"], var.lambda_architecture)
    error_message = "The architecture of the Lambda is arm64 or x86_64."
  }
}

variable "invocation_interval" {
  description = "How often the Lambda runs: rate(1 minute) and nothing else, as it looks for a minute each time; how often in that, samples_per_minute says."
  type        = string
  default     = "rate(1 minute)"
  nullable    = false

  validation {
    condition     = var.invocation_interval == "rate(1 minute)"
    error_message = "The Lambda runs at rate(1 minute): it looks for a minute each time, and alarms count minutes. To pay for less of it, set the samples per minute to 2."
  }
}

variable "samples_per_minute" {
  description = "How often the Lambda looks at the queue while it runs; null for 6, and 4 with alarms. More samples start tasks sooner, and are paid for as the Lambda's time."
  type        = number
  default     = null

  validation {
    condition     = var.samples_per_minute == null ? true : contains([2, 3, 4, 6], var.samples_per_minute)
    error_message = "The Lambda looks 2, 3, 4 or 6 times a minute. With alarms, one sample could be from before target tracking acted, which would then multiply what it has made."
  }
}

variable "min_capacity" {
  description = "The fewest tasks. With 0, nothing is paid for while nothing is to be done, and the first job waits for a task to start."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.min_capacity >= 0 && floor(var.min_capacity) == var.min_capacity
    error_message = "The minimum capacity is a whole number from 0."
  }
}

variable "max_capacity" {
  description = "The most tasks."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.max_capacity >= 1 && var.max_capacity >= var.min_capacity && floor(var.max_capacity) == var.max_capacity
    error_message = "The maximum capacity is a whole number, at least 1 and at least the minimum capacity."
  }
}

variable "slots_per_task" {
  description = "Jobs that a task runs side by side."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.slots_per_task >= 1 && floor(var.slots_per_task) == var.slots_per_task
    error_message = "A task runs at least one job: slots are a whole number from 1."
  }
}

variable "job_seconds" {
  description = "How long a job takes, in seconds: an estimate, until the tasks have measured it."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.job_seconds >= 0.000001 && var.job_seconds <= 1000000000
    error_message = "A job takes from 0.000001 to 1000000000 seconds: the Lambda refuses anything else."
  }
}

variable "backlog_target_seconds" {
  description = "Within how many seconds a backlog is to be drained. Less means more tasks and less waiting; below the time of one job it makes no difference."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.backlog_target_seconds >= 0.000001 && var.backlog_target_seconds <= 1000000000
    error_message = "The backlog target is from 0.000001 to 1000000000 seconds: the Lambda refuses anything else. `haulage simulate` shows what it does."
  }
}

variable "scaler" {
  description = "Who sets the number of tasks: direct is the Lambda itself, which may then call ecs:UpdateService on this service; alarms are CloudWatch alarms and policies of Application Auto Scaling, for accounts that do not grant that."
  type        = string
  default     = "direct"
  nullable    = false

  validation {
    condition     = contains(["direct", "alarms"], var.scaler)
    error_message = "The scaler is direct, where the Lambda sets the number of tasks itself, or alarms."
  }
}

variable "scale_in_window_seconds" {
  description = "For how many seconds tasks that are not needed are kept, from 30 to 3600; with alarms, whole minutes."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.scale_in_window_seconds >= 30 && var.scale_in_window_seconds <= 3600 && floor(var.scale_in_window_seconds) == var.scale_in_window_seconds
    error_message = "The scale-in window is 30 to 3600 whole seconds."
  }

  validation {
    condition     = var.scaler != "alarms" || var.scale_in_window_seconds % 60 == 0
    error_message = "Alarms count minutes: with scaler = \"alarms\", the scale-in window is a multiple of 60 seconds."
  }
}

variable "log_retention_days" {
  description = "For how long the Lambda's logs are kept, in days."
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

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts the log of the Lambda; null for one of CloudWatch."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/", var.kms_key_arn))
    error_message = "The key is the ARN of one of KMS, not of an alias, such as arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
