variable "name" {
  description = "Name of the queue, without .fifo; the dead-letter queue is NAME-dlq."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,71}$", var.name))
    error_message = "A queue name has 1 to 71 letters, digits, hyphens or underscores here, so that .fifo and -dlq still fit into the 80 that SQS allows."
  }
}

variable "fifo" {
  description = "Whether the queues are FIFO, with the high-throughput settings. A queue cannot change its kind: another value makes new queues."
  type        = bool
  default     = true
  nullable    = false
}

variable "visibility_timeout_seconds" {
  description = "How long a received message stays hidden before its first heartbeat, in seconds."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.visibility_timeout_seconds >= 1 && var.visibility_timeout_seconds <= 43200
    error_message = "The visibility timeout is 1 to 43200 seconds (12 hours); heartbeats extend it, so some seconds are enough."
  }
}

variable "max_receive_count" {
  description = "After how many receives SQS itself moves a message to the dead-letter queue. A net under the consumers, which count attempts: releases and second deliveries are receives as well, so it has to be higher than the max_attempts of any job."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.max_receive_count >= 2 && var.max_receive_count <= 1000 && floor(var.max_receive_count) == var.max_receive_count
    error_message = "The maximum receive count is 2 to 1000, and higher than the max_attempts of any job (3 by default)."
  }
}

variable "message_retention_seconds" {
  description = "For how long a job may wait in the queue, in seconds."
  type        = number
  default     = 1209600
  nullable    = false

  validation {
    condition     = var.message_retention_seconds >= 86400 && var.message_retention_seconds <= 1209600
    error_message = "Keep messages for 86400 (a day) to 1209600 seconds (14 days, the most of SQS): a job that waits for longer loses its message, and within a day there is no time to replace it."
  }
}

variable "content_based_deduplication" {
  description = "Whether messages sent without a deduplication id get one from their content. FIFO only; Haulage sends ids."
  type        = bool
  default     = false
  nullable    = false
}

variable "deduplication_scope" {
  description = "messageGroup, for high throughput, or queue. FIFO only."
  type        = string
  default     = "messageGroup"
  nullable    = false

  validation {
    condition     = contains(["messageGroup", "queue"], var.deduplication_scope)
    error_message = "The deduplication scope is messageGroup (high throughput) or queue."
  }
}

variable "dlq_message_retention_seconds" {
  description = "For how long a dead letter is kept, in seconds. On a standard queue the time in the queue counts too."
  type        = number
  default     = 1209600
  nullable    = false

  validation {
    condition     = var.dlq_message_retention_seconds >= 60 && var.dlq_message_retention_seconds <= 1209600
    error_message = "SQS keeps messages for 60 to 1209600 seconds (14 days)."
  }
}

variable "dlq_visibility_timeout_seconds" {
  description = "How long a dead letter stays hidden while somebody looks at it, in seconds."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.dlq_visibility_timeout_seconds >= 0 && var.dlq_visibility_timeout_seconds <= 43200
    error_message = "The visibility timeout of the dead-letter queue is 0 to 43200 seconds."
  }
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts messages; null for a key of SQS."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/", var.kms_key_arn))
    error_message = "The key is the ARN of one of KMS, not of an alias, such as arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab."
  }
}

variable "named" {
  description = "Names of further queues of the same store: NAME--QUEUE in SQS, with the same settings and the same dead-letter queue."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for queue in var.named : can(regex("^[A-Za-z0-9_-]+$", queue)) && queue != "default" && length("${var.name}--${queue}.fifo") <= 80]) && length(distinct(var.named)) == length(var.named)
    error_message = "A named queue has letters, digits, hyphens and underscores, is not called default, which is the one without a name, and makes no more than the 80 characters that SQS has with the name of the store."
  }

  validation {
    condition     = length(var.named) <= 9
    error_message = "There are 9 named queues at most: SQS lets 10 queues share a dead-letter queue one by one."
  }

  validation {
    condition     = length(var.named) == 0 || !(strcontains(var.name, "--") || endswith(var.name, "-"))
    error_message = "Two hyphens are what tells named queues apart: with them, the name has no two in a row, and none at its end."
  }
}

variable "senders" {
  description = "Who else sends jobs, by a name: an AWS service for one source (service, such as sns.amazonaws.com, events.amazonaws.com or s3.amazonaws.com; source_arn; source_account, where that is another one), or principals of other accounts (principal_arns), which then need a policy of their account, too. queues: to which of the queues, by the names in named; default is the one without a name. Each message is a job, whose body has to be JSON."
  type = map(object({
    service        = optional(string)
    source_arn     = optional(string)
    source_account = optional(string)
    principal_arns = optional(list(string), [])
    queues         = optional(list(string), ["default"])
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.senders) : can(regex("^[A-Za-z][A-Za-z0-9_-]*$", name))])
    error_message = "The name of a sender begins with a letter, and has letters, digits, hyphens and underscores."
  }

  validation {
    condition = alltrue([for sender in values(var.senders) : sender.service == null ? (
      length(sender.principal_arns) > 0 && alltrue([for arn in sender.principal_arns : can(regex("^arn:[^:]+:iam::[0-9]{12}:", arn))])
      ) : (
      sender.source_arn != null && length(sender.principal_arns) == 0
    )])
    error_message = "A sender is either a service with the source_arn that it acts for, such as { service = \"events.amazonaws.com\", source_arn = \"arn:aws:events:eu-central-1:123456789012:rule/nightly\" }, or principal_arns of IAM, such as [\"arn:aws:iam::210987654321:role/web\"]."
  }

  validation {
    condition     = alltrue([for sender in values(var.senders) : length(sender.queues) > 0 && alltrue([for queue in sender.queues : contains(concat(["default"], var.named), queue)])])
    error_message = "A sender sends to queues that are there: ${join(", ", concat(["default"], var.named))}."
  }

  validation {
    condition     = !var.fifo || !anytrue([for sender in values(var.senders) : coalesce(sender.service, "none") == "s3.amazonaws.com"])
    error_message = "S3 sends to no FIFO queue: let it send to SNS or EventBridge, or set fifo (queue_fifo) to false."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
