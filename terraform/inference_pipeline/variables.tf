# ---- what it is

variable "name" {
  description = "Name of the pipeline. Pipelines of one account have different ones, such as prod and staging, in different regions as well: names of roles are those of the account."
  type        = string
  default     = "haulage"
  nullable    = false

  validation {
    # The payload bucket leaves 27; the repository takes one hyphen at a time,
    # and two characters or more; parameters and security groups have beginnings
    # that AWS keeps for itself.
    condition     = can(regex("^[a-z0-9]+(-[a-z0-9]+)*$", var.name)) && length(var.name) >= 2 && length(var.name) <= 27 && !can(regex("^(aws|ssm|sg-)", var.name))
    error_message = "The name has 2 to 27 lower-case letters, digits or single hyphens, such as prod or speech-v2; it begins and ends with a letter or digit, and does not begin with aws, ssm or sg-."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "permissions_boundary" {
  description = "ARN of a policy beyond which no role that is made here can go; null for none."
  type        = string
  default     = null
}

variable "iam_path" {
  description = "The path of the roles and policies that are made here, such as /pipelines/."
  type        = string
  default     = "/"
  nullable    = false
}

# ---- where it is

variable "vpc_id" {
  description = "The VPC."
  type        = string
  nullable    = false
}

variable "subnet_ids" {
  description = "The subnets of the tasks. With endpoints, private ones: subnet_ids of the endpoints stack. Without, private ones with a route to a NAT gateway, or public ones with assign_public_ip."
  type        = list(string)
  nullable    = false
}

variable "sqs_vpc_endpoint_id" {
  description = "The SQS endpoint of the VPC: vpc_endpoints.sqs of the endpoints stack. Its security group lets the tasks in. Null: the tasks reach AWS, and everything else that speaks HTTPS, by the routes of their subnets."
  type        = string
  default     = null

  validation {
    condition     = var.sqs_vpc_endpoint_id == null || can(regex("^vpce-[0-9a-f]+$", var.sqs_vpc_endpoint_id))
    error_message = "An endpoint id looks like vpce-0123456789abcdef0; the endpoints stack prints it as vpc_endpoints.sqs."
  }
}

variable "use_vpc_endpoints" {
  description = "Whether the tasks go out through endpoints of the VPC, and nowhere else. Null: where sqs_vpc_endpoint_id is given. Say true if the same apply makes that endpoint, as it cannot be known in time whether it is null."
  type        = bool
  default     = null

  validation {
    condition     = var.use_vpc_endpoints == null || try(var.use_vpc_endpoints == (var.sqs_vpc_endpoint_id != null), true)
    error_message = "Either use_vpc_endpoints is true and sqs_vpc_endpoint_id is given, or neither."
  }
}

variable "endpoint_security_group_id" {
  description = "The security group that the interface endpoints of the VPC have in common; null where the SQS endpoint has just that one, as with the endpoints stack."
  type        = string
  default     = null
}

variable "assign_public_ip" {
  description = "Whether a task gets a public address, which it needs in a public subnet without endpoints. Nothing comes in there either."
  type        = bool
  default     = false
  nullable    = false
}

variable "egress_rules" {
  description = "Where else the tasks may go, by a name of the rule: cidr_blocks, ipv6_cidr_blocks or a security_group_id; protocol (default: tcp), from_port, to_port (default: from_port). Such as a database, or a file system."
  type = map(object({
    cidr_blocks       = optional(list(string))
    ipv6_cidr_blocks  = optional(list(string))
    security_group_id = optional(string)
    protocol          = optional(string, "tcp")
    from_port         = number
    to_port           = optional(number)
  }))
  default  = {}
  nullable = false
}

variable "security_group_ids" {
  description = "Further security groups of the tasks."
  type        = list(string)
  default     = []
  nullable    = false
}

# ---- the worker

variable "ecr" {
  description = "URL of the ECR repository with the image, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com/model; in the region of the pipeline; null makes one of the pipeline's name."
  type        = string
  default     = null

  validation {
    condition     = var.ecr == null || can(regex("^[0-9]{12}\\.dkr\\.ecr\\.[a-z0-9-]+\\.amazonaws\\.com(\\.cn)?/[a-z0-9._/-]+$", var.ecr))
    error_message = "Give the URL of a repository without a tag, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com/model."
  }

  validation {
    condition     = var.ecr == null || try(split(".", var.ecr)[3] == data.aws_region.current.region, true)
    error_message = "The repository is not in ${data.aws_region.current.region}, and tasks reach no ECR but that of their region: push the image there, or replicate the repository."
  }
}

variable "create_repository" {
  description = "Whether to make a repository. Null: where ecr is null. Say false if ecr is the URL of one that the same apply makes, as it cannot be known in time whether that is null."
  type        = bool
  default     = null

  validation {
    condition     = var.create_repository == null || try(var.create_repository == (var.ecr == null), true)
    error_message = "Either create_repository is true, or ecr is the URL of a repository."
  }
}

variable "ecr_force_delete" {
  description = "Whether a destroy deletes the repository with the images in it."
  type        = bool
  default     = false
  nullable    = false
}

variable "ecr_keep_images" {
  description = "How many images with a tag the repository keeps; the oldest go, also where a task still runs on one. Let it be more than you push between two deployments."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.ecr_keep_images >= 2 && floor(var.ecr_keep_images) == var.ecr_keep_images
    error_message = "Keep 2 images or more, a whole number: the one that runs, and the one to go back to."
  }
}

variable "container_tag" {
  description = "Tag of the image. A tag that never moves, such as a version, makes a rollback possible."
  type        = string
  default     = "latest"
  nullable    = false
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
  nullable    = false
}

variable "health_check_command" {
  description = "Command that ECS runs in the container to see whether it is well: [\"CMD\", \"haulage\", \"health\"] where a worker of Haulage runs and the program or the Python package is on the PATH. Null for none."
  type        = list(string)
  default     = null
}

variable "health_check_start_period" {
  description = "Seconds after the start of a container during which failed health checks do not count. A worker of Haulage answers from its start, while it loads a model, too; a container with another server may take longer."
  type        = number
  default     = 120
  nullable    = false
}

variable "cpu" {
  description = "CPU units of a task; 1024 are one vCPU."
  type        = number
  default     = 1024
  nullable    = false
}

variable "memory" {
  description = "Memory of a task, in MiB."
  type        = number
  default     = 4096
  nullable    = false
}

variable "ephemeral_storage_gib" {
  description = "Disk of a task on Fargate, in GiB, image included: 21 to 200; null for the 20 that it has anyway."
  type        = number
  default     = null
}

variable "gpus" {
  description = "GPUs of a task; they need a capacity_provider."
  type        = number
  default     = 0
  nullable    = false
}

variable "cpu_architecture" {
  description = "X86_64 or ARM64, as the image was built."
  type        = string
  default     = "X86_64"
  nullable    = false
}

variable "fargate" {
  description = "How tasks are spread over Fargate and Fargate Spot: base (tasks on demand), weight, spot_weight."
  type = object({
    base        = optional(number, 0)
    weight      = optional(number, 1)
    spot_weight = optional(number, 0)
  })
  default  = {}
  nullable = false
}

variable "capacity_provider" {
  description = "Name of a capacity provider of ECS Managed Instances or EC2, in place of Fargate; docs/deploy.md has how to make one."
  type        = string
  default     = null
}

variable "capacity_provider_type" {
  description = "What capacity_provider provides: MANAGED_INSTANCES or EC2."
  type        = string
  default     = "MANAGED_INSTANCES"
  nullable    = false
}

variable "concurrency" {
  description = "Jobs that a task runs side by side."
  type        = number
  default     = 1
  nullable    = false
}

variable "desired_count" {
  description = "Tasks at first, and not fewer than service_autoscaling_min_capacity. Later applies leave their number alone: autoscaling has the say, or without it `aws ecs update-service --desired-count`."
  type        = number
  default     = 1
  nullable    = false
}

variable "heartbeat_interval" {
  description = "How often a task extends the leases of its jobs, in seconds."
  type        = number
  default     = 10
  nullable    = false
}

variable "heartbeat_visibility_timeout_seconds" {
  description = "How long a job stays with a task without a heartbeat, in seconds."
  type        = number
  default     = 30
  nullable    = false
}

variable "enable_ecs_scalein_protection" {
  description = "Whether a task that works is protected from scale-in and deployments."
  type        = bool
  default     = true
  nullable    = false
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

variable "log_retention_days" {
  description = "For how long logs are kept, in days."
  type        = number
  default     = 30
  nullable    = false
}

# ---- the queue

variable "queue_fifo" {
  description = "Whether the queue is FIFO."
  type        = bool
  default     = true
  nullable    = false
}

variable "queue_visibility_timeout_seconds" {
  description = "How long a received message stays hidden before its first heartbeat, in seconds."
  type        = number
  default     = 30
  nullable    = false
}

variable "queue_max_receive_count" {
  description = "After how many receives SQS itself moves a message to the dead-letter queue; higher than the max_attempts of any job. With groups, 100 is better: each receive of a job behind its group counts."
  type        = number
  default     = 10
  nullable    = false
}

variable "queue_message_retention_seconds" {
  description = "For how long a job may wait, in seconds: a day or more. It costs nothing to keep 1209600 (14 days)."
  type        = number
  default     = 1209600
  nullable    = false
}

variable "queue_content_based_deduplication" {
  description = "Whether messages sent without a deduplication id get one from their content."
  type        = bool
  default     = false
  nullable    = false
}

variable "queue_deduplication_scope" {
  description = "messageGroup, for high throughput, or queue."
  type        = string
  default     = "messageGroup"
  nullable    = false
}

variable "dlq_message_retention_seconds" {
  description = "For how long a dead letter is kept, in seconds."
  type        = number
  default     = 1209600
  nullable    = false
}

variable "dlq_visibility_timeout_seconds" {
  description = "How long a dead letter stays hidden while somebody looks at it, in seconds."
  type        = number
  default     = 30
  nullable    = false
}

# ---- records and payloads

variable "dynamodb_point_in_time_recovery_enabled" {
  description = "Whether the table can be restored to any second of the last 35 days."
  type        = bool
  default     = false
  nullable    = false
}

variable "dynamodb_deletion_protection_enabled" {
  description = "Whether the table is protected from deletion."
  type        = bool
  default     = false
  nullable    = false
}

variable "payload_bucket" {
  description = "Whether to make a bucket for bodies and results that are too large for SQS and DynamoDB."
  type        = bool
  default     = true
  nullable    = false
}

variable "payload_bucket_force_destroy" {
  description = "Whether a destroy deletes the bucket with what is in it."
  type        = bool
  default     = false
  nullable    = false
}

# ---- scaling

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

# ---- alarms

variable "enable_alarms" {
  description = "Whether to make alarms."
  type        = bool
  default     = true
  nullable    = false
}

variable "alarm_topic_arn" {
  description = "SNS topic that is told of alarms; null for none."
  type        = string
  default     = null
}

variable "alarm_oldest_job_seconds" {
  description = "While jobs wait, one that was submitted longer ago than this, in seconds, is an alarm. Jobs that run and delayed ones count: let it be more than the longest of them."
  type        = number
  default     = 3600
  nullable    = false
}

variable "alarm_no_progress_minutes" {
  description = "Jobs that wait while none runs or ends for so many minutes are an alarm."
  type        = number
  default     = 15
  nullable    = false
}

variable "alarm_task_failures" {
  description = "So many tasks that end by themselves, or do not start, within 15 minutes are an alarm."
  type        = number
  default     = 3
  nullable    = false
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
