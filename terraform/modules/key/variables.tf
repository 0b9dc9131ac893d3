variable "name" {
  description = "Name of the key: its alias is alias/NAME."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9/_-]{1,250}$", var.name)) && !startswith(var.name, "aws/")
    error_message = "The name has 1 to 250 letters, digits, slashes, hyphens and underscores, and does not begin with aws/, which is for keys of AWS."
  }
}

variable "description" {
  description = "What the key is for."
  type        = string
  nullable    = false
}

variable "services" {
  description = "AWS services that write to what it encrypts: cloudwatch.amazonaws.com for a topic that is told of alarms; sns.amazonaws.com, events.amazonaws.com or s3.amazonaws.com for a queue that they send to."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for service in var.services : endswith(service, ".amazonaws.com")])
    error_message = "A service is named as a principal, such as sns.amazonaws.com."
  }
}

variable "deletion_window_days" {
  description = "For how many days after a destroy the key can be brought back: 7 to 30. Without it, nothing that it encrypts can be read any more."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.deletion_window_days >= 7 && var.deletion_window_days <= 30 && floor(var.deletion_window_days) == var.deletion_window_days
    error_message = "KMS waits for 7 to 30 whole days before it deletes a key."
  }
}

variable "tags" {
  description = "Tags of the key."
  type        = map(string)
  default     = {}
  nullable    = false
}
