variable "name" {
  description = "What the names of the alarms begin with."
  type        = string
}

variable "cluster" {
  description = "The ECS cluster and service of the tasks."
  type = object({
    name         = string
    arn          = string
    service_name = string
  })
}

variable "queue_name" {
  description = "Name of the queue."
  type        = string
}

variable "dlq_name" {
  description = "Name of the dead-letter queue."
  type        = string
}

variable "table_name" {
  description = "Name of the table."
  type        = string
}

variable "lambda_name" {
  description = "Name of the scaling Lambda; null where there is none."
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
  description = "The alarm \"oldest job\" goes off when a job has waited for longer than this, in seconds."
  type        = number
  default     = 3600

  validation {
    condition     = var.oldest_job_seconds >= 60
    error_message = "The age of the oldest job is measured each minute; let it be 60 seconds or more."
  }
}

variable "no_progress_minutes" {
  description = "The alarm \"no progress\" goes off when jobs wait, none runs and none ended for so many minutes."
  type        = number
  default     = 15

  validation {
    condition     = var.no_progress_minutes >= 5 && var.no_progress_minutes <= 1440 && floor(var.no_progress_minutes) == var.no_progress_minutes
    error_message = "No progress is seen in 5 to 1440 whole minutes; it has to be longer than a task takes to start."
  }
}

variable "task_failures" {
  description = "The alarm \"task failures\" goes off at so many tasks that end by themselves, or do not start, within 5 minutes."
  type        = number
  default     = 3

  validation {
    condition     = var.task_failures >= 1
    error_message = "The alarm needs at least one failed task."
  }
}

variable "dashboard" {
  description = "Whether to make a dashboard. CloudWatch has three for nothing; each other is about 3 dollars a month."
  type        = bool
  default     = false
}

variable "dollars_per_task_hour" {
  description = "What a task costs, for the dashboard; by default one vCPU and 4 GB on Fargate in us-east-1."
  type        = number
  default     = 0.05826
}

variable "log_retention_days" {
  description = "For how long reports of failed tasks are kept, in days."
  type        = number
  default     = 30
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
