# Scaling and alarms.

variable "enable_autoscaling" {
  description = "Whether the service follows its queue. It needs lambda_package, or another scaler."
  type        = bool
  default     = true
  nullable    = false

  validation {
    condition     = !var.enable_autoscaling || !var.create_scaler || var.lambda_package != null
    error_message = "Autoscaling needs the scaling Lambda: `make lambda` builds it; set lambda_package to { path = \"…\" } of its zip, or enable_autoscaling to false, or create_scaler where the stack scaler has the pairs of this pipeline."
  }
}

variable "create_scaler" {
  description = "Whether the pipeline has a scaling Lambda of its own. False: the stack scaler takes the output scaler_pairs, and scales many pipelines for the price of one."
  type        = bool
  default     = true
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
  default = null
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

variable "more_services" {
  description = "More services on the same queue, in this order: each is scaled for the jobs that those before it, at their most, have no slots for. Such as tasks on Spot beyond some on demand, or on CPUs beyond those on GPUs. What is not given is as in the first service; sidecars, volumes and container replace those of the first as a whole, and environment is added to container_environment, without HAULAGE_GPUS for a service on_fargate."
  type = list(object({
    name                   = string
    container_tag          = optional(string)
    command                = optional(list(string))
    environment            = optional(map(string), {})
    cpu                    = optional(number)
    memory                 = optional(number)
    gpus                   = optional(number)
    cpu_architecture       = optional(string)
    ephemeral_storage_gib  = optional(number)
    fargate                = optional(object({ base = optional(number, 0), weight = optional(number, 1), spot_weight = optional(number, 0) }))
    capacity_provider      = optional(string)
    capacity_provider_type = optional(string)
    on_fargate             = optional(bool, false)
    concurrency            = optional(number)
    min_capacity           = optional(number, 0)
    max_capacity           = optional(number, 10)
    sidecars = optional(map(object({
      image       = string
      command     = optional(list(string))
      entry_point = optional(list(string))
      environment = optional(map(string), {})
      secrets     = optional(map(string), {})
      cpu         = optional(number)
      memory      = optional(number)
      gpus        = optional(number, 0)
      essential   = optional(bool, true)
      wait_for    = optional(string, "START")
      mounts      = optional(map(string), {})
      health_check = optional(object({
        command      = list(string)
        start_period = optional(number, 120)
      }))
    })))
    volumes = optional(map(object({
      path      = string
      read_only = optional(bool, false)
      host_path = optional(string)
      efs = optional(object({
        file_system_arn   = string
        access_point_arn  = optional(string)
        root_directory    = optional(string, "/")
        security_group_id = optional(string)
      }))
    })))
    container = optional(object({
      user              = optional(string)
      read_only         = optional(bool, false)
      add               = optional(list(string), [])
      drop              = optional(list(string), [])
      ulimits           = optional(map(object({ soft = number, hard = number })), {})
      shared_memory_mib = optional(number)
    }))
  }))
  default  = []
  nullable = false

  validation {
    condition     = alltrue([for service in var.more_services : can(regex("^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$", service.name))]) && length(distinct(var.more_services[*].name)) == length(var.more_services)
    error_message = "Each of more_services has a name of its own: 1 to 20 lower-case letters, digits or hyphens, such as spot."
  }

  validation {
    condition     = alltrue([for service in var.more_services : !service.on_fargate || service.capacity_provider == null])
    error_message = "A service has either a capacity_provider, or on_fargate = true where the first service is not on Fargate."
  }

  validation {
    condition = alltrue([for service in var.more_services : !service.on_fargate || (
      (service.sidecars != null || alltrue([for sidecar in values(var.sidecars) : sidecar.gpus == 0])) &&
      (service.volumes != null || alltrue([for volume in values(var.volumes) : volume.host_path == null])) &&
      (service.container != null || var.container.shared_memory_mib == null)
    )])
    error_message = "The first service has what Fargate has not (GPUs of sidecars, a host_path, or shared_memory_mib): beside on_fargate = true, give sidecars, volumes or container of its own, such as sidecars = {} for none."
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

variable "create_event_log_policy" {
  description = "Whether to let EventBridge write reports of failed tasks into logs. Null: where the tasks use no endpoints, as the endpoints stack does it for all pipelines on it. Say true with endpoints of your own. A region has ten such policies at most."
  type        = bool
  default     = null
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
