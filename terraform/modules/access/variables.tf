variable "name" {
  description = "What the names of the policies begin with."
  type        = string
  nullable    = false
}

variable "queues" {
  description = "The queues of the jobs, with their dead-letter queues."
  type = list(object({
    arn     = string
    dlq_arn = string
  }))
  nullable = false

  validation {
    condition     = length(var.queues) > 0
    error_message = "Give at least one queue."
  }
}

variable "table" {
  description = "The table of records."
  type = object({
    arn = string
  })
  nullable = false
}

variable "bucket" {
  description = "The bucket for large payloads; null where there is none."
  type = object({
    arn = string
  })
  default = null
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts queues, table and bucket; null where AWS has the keys."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/", var.kms_key_arn))
    error_message = "The key is the ARN of one of KMS, not of an alias, such as arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab."
  }
}

variable "iam_path" {
  description = "The path of the policies."
  type        = string
  default     = "/"
  nullable    = false

  validation {
    condition     = can(regex("^/([!-.0-~]+/)*$", var.iam_path))
    error_message = "A path begins and ends with a slash, such as /pipelines/."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
