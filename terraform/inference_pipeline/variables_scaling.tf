# Scaling and alarms.

variable "enable_autoscaling" {
  description = "Whether the service follows its queue. It needs lambda_package."
  type        = bool
  default     = true
  nullable    = false

  validation {
    condition     = !var.enable_autoscaling || var.lambda_package != null
    error_message = "Autoscaling needs the scaling Lambda: `make lambda` builds it; set lambda_package to the path of its zip, or enable_autoscaling to false."
  }
}

variable "lambda_package" {
  description = "Path of the zip of the scaling Lambda, which `make lambda` builds: .tools/lambda/haulage-autoscale-arm64.zip."
  type        = string
  default     = null
}

variable "lambda_architecture" {
  description = "arm64 or x86_64, as lambda_package was built for."
  type        = string
  default     = "arm64"
  nullable    = false
}

variable "compute_queue_backlog_lambda_invocation_interval" {
  description = "How often the Lambda runs: rate(1 minute) and nothing else. lambda_samples_per_minute makes it cheaper."
  type        = string
  default     = "rate(1 minute)"
  nullable    = false
}

variable "lambda_samples_per_minute" {
  description = "How often the Lambda looks at the queue while it runs: 2, 3, 4 or 6 times a minute; null for 6, and 4 with alarms."
  type        = number
  default     = null
}

variable "service_autoscaling_min_capacity" {
  description = "The fewest tasks that scaling leaves; 0 scales to nothing. Raised later, it holds from the next time the service scales."
  type        = number
  default     = 1
  nullable    = false
}

variable "service_autoscaling_max_capacity" {
  description = "The most tasks."
  type        = number
  default     = 10
  nullable    = false
}

variable "avg_msg_proc_time_seconds" {
  description = "How long a job takes, in seconds: an estimate, until the tasks have measured it."
  type        = number
  default     = 60
  nullable    = false
}

variable "approx_num_backlog_messages" {
  description = "How many jobs in a row a slot may have before it. Times avg_msg_proc_time_seconds it is the backlog target: 1 gives each job a slot of its own; 3 costs about a third less where jobs come evenly."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.approx_num_backlog_messages > 0
    error_message = "approx_num_backlog_messages is more than 0; 1 to 5 are usual."
  }
}

variable "scaler" {
  description = "Who sets the number of tasks: direct is the Lambda itself; alarms are CloudWatch alarms and policies of Application Auto Scaling, for accounts in which the Lambda may not call ecs:UpdateService."
  type        = string
  default     = "direct"
  nullable    = false
}

variable "service_autoscaling_scale_in_window_seconds" {
  description = "For how many seconds tasks that are not needed are kept, from 30 to 3600; with alarms, whole minutes."
  type        = number
  default     = 120
  nullable    = false
}

variable "enable_alarms" {
  description = "Whether to make alarms."
  type        = bool
  default     = true
  nullable    = false
}

variable "alarms" {
  description = "Who is told of alarms, and when they go off. topic_arn: an SNS topic; oldest_job_seconds: while jobs wait, one that was submitted longer ago than this (jobs that run and delayed ones count: let it be more than the longest of them); no_progress_minutes: jobs that wait while none runs or ends for so long; task_failures: so many tasks that end by themselves, or do not start, within 15 minutes."
  type = object({
    topic_arn           = optional(string)
    oldest_job_seconds  = optional(number, 3600)
    no_progress_minutes = optional(number, 15)
    task_failures       = optional(number, 3)
  })
  default  = {}
  nullable = false
}

variable "enable_dashboard" {
  description = "Whether to make a dashboard."
  type        = bool
  default     = false
  nullable    = false
}

variable "dollars_per_task_hour" {
  description = "What a task costs in an hour, for the dashboard; by default what its cpu and memory cost on Fargate on demand in us-east-1, and nothing with a capacity_provider."
  type        = number
  default     = null
}
