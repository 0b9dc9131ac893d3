variable "name" {
  description = "Name of the repository."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]+([._/-][a-z0-9]+)*$", var.name)) && length(var.name) >= 2 && length(var.name) <= 256
    error_message = "The name of a repository has 2 to 256 lower-case letters and digits, with single dots, underscores, slashes or hyphens between them."
  }
}

variable "immutable_tags" {
  description = "Whether a tag, once pushed, never moves."
  type        = bool
  default     = true
  nullable    = false
}

variable "keep_images" {
  description = "How many images with a tag are kept; the oldest go, also where a task still runs on one. Let it be more than you push between two deployments."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.keep_images >= 2 && floor(var.keep_images) == var.keep_images
    error_message = "Keep 2 images or more, a whole number: the one that runs, and the one to go back to."
  }
}

variable "force_delete" {
  description = "Whether a destroy deletes the repository with the images in it."
  type        = bool
  default     = false
  nullable    = false
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts images; null for a key of ECR. Another key makes another repository."
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
