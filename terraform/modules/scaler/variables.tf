# What to scale, and the Lambda that does.

variable "name" {
  description = "What the names of the resources begin with."
  type        = string
  nullable    = false
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

  validation {
    condition     = length(var.pairs) > 0 && length(var.pairs) <= 50
    error_message = "One Lambda scales 1 to 50 services: a role has room for the ARNs of no more (10,240 characters, IAM User Guide, \"IAM and AWS STS quotas\"). Make another one for the rest."
  }

  validation {
    condition     = alltrue([for pair in values(var.pairs) : alltrue([for name in [pair.cluster, pair.service, pair.queue] : can(regex("^[A-Za-z0-9._-]{1,255}$", name))])])
    error_message = "Cluster, service and queue are names, not ARNs or URLs."
  }

  validation {
    condition     = alltrue([for pair in values(var.pairs) : pair.task_family == null || can(regex("^[A-Za-z0-9_-]{1,255}$", pair.task_family))])
    error_message = "task_family is the family of task definitions without a revision, such as thumbnails."
  }

  validation {
    condition     = length(distinct([for pair in values(var.pairs) : "${pair.cluster}/${pair.service}"])) == length(var.pairs)
    error_message = "A service is in one pair only: two that scale it would undo what the other does."
  }

  validation {
    condition = alltrue([for pair in values(var.pairs) :
      pair.min_tasks >= 0 && floor(pair.min_tasks) == pair.min_tasks && pair.max_tasks >= 1 && floor(pair.max_tasks) == pair.max_tasks && pair.max_tasks >= pair.min_tasks
    ])
    error_message = "min_tasks is a whole number from 0, and max_tasks one from 1 that is not less."
  }

  validation {
    condition = alltrue([for pair in values(var.pairs) :
      pair.slots_per_task >= 1 && floor(pair.slots_per_task) == pair.slots_per_task && pair.slots_before >= 0 && floor(pair.slots_before) == pair.slots_before
    ])
    error_message = "A task runs at least one job: slots_per_task is a whole number from 1, and slots_before one from 0."
  }

  validation {
    condition = alltrue([for pair in values(var.pairs) : alltrue([
      for seconds in [pair.job_seconds, pair.target_seconds] : seconds >= 0.000001 && seconds <= 1000000000
    ])])
    error_message = "A job takes, and a backlog is to be drained in, 0.000001 to 1000000000 seconds: the Lambda refuses anything else. `haulage simulate` shows what a target does."
  }

  validation {
    condition = alltrue([for pair in values(var.pairs) :
      pair.scale_in_window_seconds >= 30 && pair.scale_in_window_seconds <= 3600 && floor(pair.scale_in_window_seconds) == pair.scale_in_window_seconds
    ])
    error_message = "The scale-in window is 30 to 3600 whole seconds."
  }

  validation {
    condition     = alltrue([for pair in values(var.pairs) : contains(["direct", "alarms"], pair.scaler)])
    error_message = "The scaler is direct, where the Lambda sets the number of tasks itself, or alarms."
  }
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

  validation {
    condition     = length([for way in [var.lambda_package.path, var.lambda_package.s3_bucket, var.lambda_package.url] : way if way != null]) == 1
    error_message = "lambda_package has either a path, or s3_bucket and s3_key, or url and sha256."
  }

  validation {
    condition     = (var.lambda_package.s3_bucket == null) == (var.lambda_package.s3_key == null)
    error_message = "A package in S3 has both s3_bucket and s3_key."
  }

  validation {
    condition     = var.lambda_package.url == null || (startswith(coalesce(var.lambda_package.url, "-"), "https://") && var.lambda_package.sha256 != null)
    error_message = "A package from a url comes by https://, and has its sha256, which the release names in SHA256SUMS."
  }

  validation {
    condition     = var.lambda_package.sha256 == null || can(regex("^[0-9a-f]{64}$", var.lambda_package.sha256))
    error_message = "sha256 has 64 hexadecimal digits, as `sha256sum` prints them."
  }
}

variable "lambda_architecture" {
  description = "arm64 or x86_64, as the package was built for."
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
  description = "How often the Lambda looks at the queue while it runs; null for 6, and 4 where alarms scale all services. More samples start tasks sooner, and are paid for as the Lambda's time."
  type        = number
  default     = null

  validation {
    condition     = var.samples_per_minute == null ? true : contains([2, 3, 4, 6], var.samples_per_minute)
    error_message = "The Lambda looks 2, 3, 4 or 6 times a minute. With alarms, one sample could be from before target tracking acted, which would then multiply what it has made."
  }
}

variable "alarms" {
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
