variable "name_prefix" {
  description = "What the bucket's name begins with; the rest is made unique."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,35}$", var.name_prefix))
    error_message = "The beginning of a bucket name has 1 to 36 lower-case letters, digits or hyphens."
  }
}

variable "force_destroy" {
  description = "Whether a destroy deletes the bucket with bodies and results in it."
  type        = bool
  default     = false
  nullable    = false
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts payloads; null for a key of S3."
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
