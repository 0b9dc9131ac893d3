# ---- what it is

variable "name" {
  description = "Name of the pipeline. Pipelines of one account and region have different ones, such as prod and staging."
  type        = string
  default     = "haulage"

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,31}$", var.name))
    error_message = "The name has 1 to 32 lower-case letters, digits or hyphens, and begins with a letter or digit."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}

# ---- where it is

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "The private subnets of the tasks: subnet_ids of the endpoints stack."
  type        = list(string)
}

variable "sqs_vpc_endpoint_id" {
  description = "The SQS endpoint of the VPC: vpc_endpoints.sqs of the endpoints stack. Its security group lets the tasks in."
  type        = string

  validation {
    condition     = can(regex("^vpce-[0-9a-f]+$", var.sqs_vpc_endpoint_id))
    error_message = "An endpoint id looks like vpce-0123456789abcdef0; the endpoints stack prints it as vpc_endpoints.sqs."
  }
}

# ---- the worker

variable "ecr" {
  description = "URL of the ECR repository with the image, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com/model; null makes one of the pipeline's name."
  type        = string
  default     = null

  validation {
    condition     = var.ecr == null || can(regex("^[0-9]{12}\\.dkr\\.ecr\\.[a-z0-9-]+\\.amazonaws\\.com(\\.cn)?/[a-z0-9._/-]+$", var.ecr))
    error_message = "Give the URL of a repository without a tag, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com/model."
  }
}

variable "container_tag" {
  description = "Tag of the image. A tag that never moves, such as a version, makes a rollback possible."
  type        = string
  default     = "latest"
}

variable "container_command" {
  description = "Command of the container, in place of the image's."
  type        = list(string)
  default     = null
}

variable "container_environment" {
  description = "More environment variables of the container."
  type        = map(string)
  default     = {}
}

variable "health_check_command" {
  description = "Command that ECS runs in the container to see whether it is well: [\"CMD\", \"haulage\", \"health\"] where a worker of Haulage runs and the program or the Python package is on the PATH. Null for none."
  type        = list(string)
  default     = null
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
  description = "GPUs of a task; they need a capacity_provider."
  type        = number
  default     = 0
}

variable "cpu_architecture" {
  description = "X86_64 or ARM64, as the image was built."
  type        = string
  default     = "X86_64"
}

variable "fargate" {
  description = "How tasks are spread over Fargate and Fargate Spot: base (tasks on demand), weight, spot_weight."
  type = object({
    base        = optional(number, 0)
    weight      = optional(number, 1)
    spot_weight = optional(number, 0)
  })
  default = {}
}

variable "capacity_provider" {
  description = "A capacity provider of ECS Managed Instances or EC2, in place of Fargate."
  type        = string
  default     = null
}

variable "capacity_provider_type" {
  description = "What capacity_provider provides: MANAGED_INSTANCES or EC2."
  type        = string
  default     = "MANAGED_INSTANCES"
}

variable "concurrency" {
  description = "Jobs that a task runs side by side."
  type        = number
  default     = 1
}

variable "desired_count" {
  description = "Tasks at first."
  type        = number
  default     = 1
}

variable "heartbeat_interval" {
  description = "How often a task extends the leases of its jobs, in seconds."
  type        = number
  default     = 10
}

variable "heartbeat_visibility_timeout_seconds" {
  description = "How long a job stays with a task without a heartbeat, in seconds."
  type        = number
  default     = 30
}

variable "enable_ecs_scalein_protection" {
  description = "Whether a task that works is protected from scale-in and deployments."
  type        = bool
  default     = true
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
}

# ---- the queue

variable "queue_fifo" {
  description = "Whether the queue is FIFO."
  type        = bool
  default     = true
}

variable "queue_visibility_timeout_seconds" {
  description = "How long a received message stays hidden before its first heartbeat, in seconds."
  type        = number
  default     = 30
}

variable "queue_max_receive_count" {
  description = "After how many receives SQS itself moves a message to the dead-letter queue; higher than the max_attempts of any job."
  type        = number
  default     = 10
}

variable "queue_message_retention_seconds" {
  description = "For how long a job may wait, in seconds."
  type        = number
  default     = 86400
}

variable "queue_content_based_deduplication" {
  description = "Whether messages sent without a deduplication id get one from their content."
  type        = bool
  default     = false
}

variable "queue_deduplication_scope" {
  description = "messageGroup, for high throughput, or queue."
  type        = string
  default     = "messageGroup"
}

variable "dlq_message_retention_seconds" {
  description = "For how long a dead letter is kept, in seconds."
  type        = number
  default     = 1209600
}

variable "dlq_visibility_timeout_seconds" {
  description = "How long a dead letter stays hidden while somebody looks at it, in seconds."
  type        = number
  default     = 30
}

# ---- records and payloads

variable "dynamodb_point_in_time_recovery_enabled" {
  description = "Whether the table can be restored to any second of the last 35 days."
  type        = bool
  default     = false
}

variable "dynamodb_deletion_protection_enabled" {
  description = "Whether the table is protected from deletion."
  type        = bool
  default     = false
}

variable "payload_bucket" {
  description = "Whether to make a bucket for bodies and results that are too large for SQS and DynamoDB."
  type        = bool
  default     = true
}

variable "payload_bucket_force_destroy" {
  description = "Whether a destroy deletes the bucket with what is in it."
  type        = bool
  default     = false
}

# ---- scaling

variable "enable_autoscaling" {
  description = "Whether the service follows its queue. It needs lambda_package."
  type        = bool
  default     = true

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
}

variable "compute_queue_backlog_lambda_invocation_interval" {
  description = "How often the Lambda runs."
  type        = string
  default     = "rate(1 minute)"
}

variable "lambda_looks_per_minute" {
  description = "How often the Lambda looks at the queue while it runs: 1, 2, 3, 4 or 6 times a minute."
  type        = number
  default     = 4
}

variable "service_autoscaling_min_capacity" {
  description = "The fewest tasks; 0 scales to nothing."
  type        = number
  default     = 1
}

variable "service_autoscaling_max_capacity" {
  description = "The most tasks."
  type        = number
  default     = 10
}

variable "avg_msg_proc_time_seconds" {
  description = "How long a job takes, in seconds: an estimate, until the tasks have measured it."
  type        = number
  default     = 60
}

variable "approx_num_backlog_messages" {
  description = "How many jobs in a row a slot may have before it. Times avg_msg_proc_time_seconds it is the backlog target: 1 gives each job a slot of its own; 3 costs about a third less where jobs come evenly."
  type        = number
  default     = 1

  validation {
    condition     = var.approx_num_backlog_messages > 0
    error_message = "approx_num_backlog_messages is more than 0; 1 to 5 are usual."
  }
}

variable "service_autoscaling_scale_in_minutes" {
  description = "For how many minutes capacity has to be needless before it is given back."
  type        = number
  default     = 2
}

# ---- alarms

variable "enable_alarms" {
  description = "Whether to make alarms."
  type        = bool
  default     = true
}

variable "alarm_topic_arn" {
  description = "SNS topic that is told of alarms; null for none."
  type        = string
  default     = null
}

variable "alarm_oldest_job_seconds" {
  description = "A job that has waited for longer than this, in seconds, is an alarm."
  type        = number
  default     = 3600
}

variable "alarm_no_progress_minutes" {
  description = "Jobs that wait while none runs or ends for so many minutes are an alarm."
  type        = number
  default     = 15
}

variable "enable_dashboard" {
  description = "Whether to make a dashboard."
  type        = bool
  default     = false
}
