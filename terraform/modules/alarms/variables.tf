variable "name" {
  description = "What the names of the alarms begin with."
  type        = string
  nullable    = false
}

variable "cluster" {
  description = "The ECS cluster, and the services of the tasks; the first one is on the dashboard."
  type = object({
    name          = string
    arn           = string
    service_names = list(string)
  })
  nullable = false
}

variable "queue_name" {
  description = "Name of the queue."
  type        = string
  nullable    = false
}

variable "more_queues" {
  description = "The named queues of the same pipeline: what they are called in SQS, by their names."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "dlq_name" {
  description = "Name of the dead-letter queue."
  type        = string
  nullable    = false
}

variable "table_name" {
  description = "Name of the table."
  type        = string
  nullable    = false
}

variable "lambda_name" {
  description = "Name of the scaling Lambda, for the dashboard; null where there is none."
  type        = string
  default     = null
}

variable "topic_arn" {
  description = "SNS topic that is told of alarms, and of their end; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.topic_arn == null || can(regex("^arn:[^:]+:sns:", var.topic_arn))
    error_message = "The topic is the ARN of an SNS topic, such as arn:aws:sns:eu-central-1:123456789012:alerts."
  }
}

variable "oldest_job_seconds" {
  description = "The alarm \"oldest job\" goes off when jobs wait and the oldest message is older than this, in seconds. Jobs that run, and those that are delayed, count: let it be more than the longest of them."
  type        = number
  default     = 3600
  nullable    = false

  validation {
    condition     = var.oldest_job_seconds >= 60
    error_message = "The age of the oldest job is measured each minute; let it be 60 seconds or more."
  }
}

variable "message_retention_seconds" {
  description = "For how long the queue keeps messages, in seconds. The alarm \"retention\" goes off at half of it."
  type        = number
  nullable    = false

  validation {
    condition     = var.message_retention_seconds >= 60 && var.message_retention_seconds <= 1209600
    error_message = "A queue keeps messages for 60 to 1209600 seconds (14 days)."
  }
}

variable "no_progress_minutes" {
  description = "The alarm \"no progress\" goes off when jobs wait, none runs and none ended for so many minutes."
  type        = number
  default     = 15
  nullable    = false

  validation {
    condition     = var.no_progress_minutes >= 5 && var.no_progress_minutes <= 1440 && floor(var.no_progress_minutes) == var.no_progress_minutes
    error_message = "No progress is seen in 5 to 1440 whole minutes; it has to be longer than a task takes to start."
  }
}

variable "task_failures" {
  description = "The alarm \"task failures\" goes off at so many tasks that end by themselves, or do not start, within 15 minutes."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = var.task_failures >= 1 && floor(var.task_failures) == var.task_failures
    error_message = "The alarm needs a whole number of failed tasks, from 1."
  }
}

variable "dashboard" {
  description = "Whether to make a dashboard. CloudWatch has three for nothing; each other is about 3 dollars a month."
  type        = bool
  default     = false
  nullable    = false
}

variable "dollars_per_task_hour" {
  description = "What a task costs in an hour, for the dashboard; null leaves the costs out."
  type        = number
  default     = null

  validation {
    condition     = var.dollars_per_task_hour == null || try(var.dollars_per_task_hour >= 0, false)
    error_message = "The dollars of a task in an hour are 0 or more, or null where they are not known."
  }
}

variable "log_retention_days" {
  description = "For how long reports of failed tasks are kept, in days."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts the reports of failed tasks; null for one of CloudWatch."
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
