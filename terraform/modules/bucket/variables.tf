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

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
