variable "name" {
  description = "What the names of the resources begin with."
  type        = string
  default     = "haulage"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]{0,49}$", var.name))
    error_message = "The name has 1 to 50 letters, digits or hyphens, and begins with a letter or digit."
  }
}

variable "pairs" {
  description = "The services to scale, each with its queue, by a name of your choice: names of cluster, service and queue (queue_url, if it is not the one of this account and region); task_family: the family of the service's task definitions; the Lambda may run no tasks in it but those of the families that pairs name; more_queues that it works off beside that one; min_tasks, max_tasks; slots_per_task: jobs that a task runs side by side; slots_before: of several services on one queue, the slots of those that come before this one, at their most; job_seconds: how long a job takes, until tasks of Haulage have measured it; target_seconds: within how long a backlog is to be drained; scale_in_window_seconds: for how long tasks that are not needed are kept; scaler: direct, or alarms, which are modules/scaling_alarms; dashboard: whether the Lambda also puts the metrics that only people look at, and policies of your own."
  type = map(object({
    cluster                 = string
    service                 = string
    queue                   = string
    queue_url               = optional(string)
    task_family             = optional(string)
    more_queues             = optional(list(object({ name = string, url = optional(string) })), [])
    min_tasks               = optional(number, 0)
    max_tasks               = optional(number, 10)
    slots_per_task          = optional(number, 1)
    slots_before            = optional(number, 0)
    job_seconds             = optional(number, 60)
    target_seconds          = optional(number, 60)
    scale_in_window_seconds = optional(number, 120)
    scaler                  = optional(string, "direct")
    dashboard               = optional(bool, false)
  }))
  nullable = false
}

variable "make_scaling_alarms" {
  description = "Whether to make the alarms and scaling policies of pairs whose scaler is alarms. False where pipelines make them, as those of the output scaler_pairs do."
  type        = bool
  default     = false
  nullable    = false
}

variable "lambda_package" {
  description = "The zip of the scaling Lambda. path: of a file, which `make lambda` builds; or s3_bucket and s3_key, with s3_object_version or sha256 to notice another one; or url and sha256: a file of a release, which the apply downloads with curl. sha256 is in hexadecimal digits, as `sha256sum` prints it."
  type = object({
    path              = optional(string)
    s3_bucket         = optional(string)
    s3_key            = optional(string)
    s3_object_version = optional(string)
    url               = optional(string)
    sha256            = optional(string)
  })
  nullable = false
}

variable "lambda_architecture" {
  description = "arm64 or x86_64, as the package was built for."
  type        = string
  default     = "arm64"
  nullable    = false
}

variable "samples_per_minute" {
  description = "How often the Lambda looks at the queue while it runs; null for 6, and 4 where alarms scale all services. More samples start tasks sooner, and are paid for as the Lambda's time."
  type        = number
  default     = null
}

variable "enable_alarms" {
  description = "Whether to make alarms: that the Lambda fails, and that it does not run."
  type        = bool
  default     = true
  nullable    = false
}

variable "alarm_topic_arn" {
  description = "SNS topic that is told of alarms, and of their end; null for none."
  type        = string
  default     = null
}

variable "log_retention_days" {
  description = "For how long the Lambda's logs are kept, in days."
  type        = number
  default     = 30
  nullable    = false
}

variable "permissions_boundary" {
  description = "ARN of a policy beyond which no role that is made here can go; null for none."
  type        = string
  default     = null
}

variable "iam_path" {
  description = "The path of the roles and policies that are made here."
  type        = string
  default     = "/"
  nullable    = false
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts the log of the Lambda; null for one of CloudWatch."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
