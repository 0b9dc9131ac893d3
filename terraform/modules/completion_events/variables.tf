variable "name" {
  description = "What the names of the resources begin with."
  type        = string
  nullable    = false
}

variable "stream_arn" {
  description = "ARN of the stream of the table of records, with new and old images."
  type        = string
  nullable    = false
}

variable "event_bus_arn" {
  description = "ARN of the bus of EventBridge that gets the events, with the source haulage and the detail-type Job ended."
  type        = string
  default     = null

  validation {
    condition     = (var.event_bus_arn == null) != (var.topic_arn == null)
    error_message = "Events go to either an event bus or a topic."
  }
}

variable "topic_arn" {
  description = "ARN of the SNS topic that gets the events instead."
  type        = string
  default     = null

  validation {
    condition     = var.topic_arn == null || !endswith(coalesce(var.topic_arn, "-"), ".fifo")
    error_message = "A pipe gives SNS no message group: take a topic that is not FIFO, or an event bus."
  }
}

variable "permissions_boundary" {
  description = "ARN of a policy beyond which no role that is made here can go; null for none."
  type        = string
  default     = null
}

variable "iam_path" {
  description = "The path of the roles that are made here."
  type        = string
  default     = "/"
  nullable    = false
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts table, and topic; null where AWS has the keys."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
