# The queue, the records, the payloads.

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

variable "queues" {
  description = "Named queues, in the order in which the tasks serve them, such as [\"interactive\", \"default\", \"bulk\"]; default is the one that the pipeline has anyway, and comes last where it is not named. Each tenth job is from a lower one. In SQS, bulk is NAME--bulk."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for queue in var.queues : can(regex("^[A-Za-z0-9_-]+$", queue)) && length("${var.name}--${queue}.fifo") <= 80]) && length(distinct(var.queues)) == length(var.queues) && length(setsubtract(var.queues, ["default"])) <= 9
    error_message = "There are 9 named queues at most, each once, of letters, digits, hyphens and underscores, such as bulk; with the name of the pipeline they are no longer than the 80 characters that SQS has."
  }

  validation {
    # A policy has 6144 characters at most ("IAM and AWS STS quotas"), and operate, the longest, has each queue in
    # three statements. What else it has is counted with a key; tests/checks.py counts a policy that was made.
    condition = 6144 >= (
      2777 + 19 * length("${var.name}${data.aws_region.current.region}") + 20 * length(data.aws_partition.current.partition)
      + 3 * sum(concat([0], [
        for queue in setsubtract(var.queues, ["default"]) :
        length("'arn:${data.aws_partition.current.partition}:sqs:${data.aws_region.current.region}:123456789012:${var.name}--${queue}.fifo',")
      ]))
    )
    error_message = "The policy operate would be longer than the 6144 characters that IAM takes: it names each queue three times. Give the queues shorter names, or have fewer of them."
  }
}

variable "queue_senders" {
  description = "Who else sends jobs, by a name: an AWS service for one source (service, such as sns.amazonaws.com, events.amazonaws.com or s3.amazonaws.com; source_arn; source_account, where that is another one), or principals of other accounts (principal_arns), which then need a policy of their account, too. queues: to which of the pipeline's queues, such as [\"bulk\"]; default is the one that it has anyway. Each message is a job, whose body has to be JSON."
  type = map(object({
    service        = optional(string)
    source_arn     = optional(string)
    source_account = optional(string)
    principal_arns = optional(list(string), [])
    queues         = optional(list(string), ["default"])
  }))
  default  = {}
  nullable = false
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

variable "dynamodb_point_in_time_recovery_enabled" {
  description = "Whether the table can be restored to any second of the last 35 days. It is paid for by size, and nothing while the table is empty."
  type        = bool
  default     = true
  nullable    = false
}

variable "dynamodb_deletion_protection_enabled" {
  description = "Whether the table is protected from deletion; a destroy fails until it is false and applied."
  type        = bool
  default     = true
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

variable "completion_events" {
  description = "Who is told of each job that ends: {} for the default bus of EventBridge, or event_bus_arn, or topic_arn of an SNS topic. The event has job_id, status (success, error, cancelled), queue, request_id, error_kind and finished_at_us. Null for nobody."
  type = object({
    event_bus_arn = optional(string)
    topic_arn     = optional(string)
  })
  default = null

  validation {
    condition     = var.completion_events == null || try(var.completion_events.event_bus_arn == null || var.completion_events.topic_arn == null, false)
    error_message = "Completion events go to either an event bus or a topic."
  }
}

variable "step_functions" {
  description = "Whether states of Step Functions can wait for jobs (.waitForTaskToken): {} for those of all state machines of this account and region, or state_machine_arns. A job whose metadata has a task_token tells the state of its success or its failure and, unless heartbeats is false, that it runs. Null: states wait in vain."
  type = object({
    heartbeats         = optional(bool, true)
    state_machine_arns = optional(list(string))
  })
  default = null

  validation {
    condition     = var.step_functions == null || var.payload_bucket
    error_message = "step_functions needs payload_bucket = true: Step Functions takes 256 KiB, and without the bucket a large result is in the record, which could not be told."
  }
}
