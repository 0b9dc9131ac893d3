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

variable "heartbeats" {
  description = "Whether a state also hears that its job runs, at each heartbeat of its worker, so that its HeartbeatSeconds can be short."
  type        = bool
  default     = true
  nullable    = false
}

variable "state_machine_arns" {
  description = "ARNs of the state machines that are answered; null for all of this account and region."
  type        = list(string)
  default     = null

  validation {
    condition     = var.state_machine_arns == null || try(alltrue([for arn in var.state_machine_arns : can(regex("^arn:[^:]+:states:[^:]+:[0-9]{12}:stateMachine:", arn))]) && length(var.state_machine_arns) > 0, false)
    error_message = "State machines are named by their ARNs, such as arn:aws:states:eu-central-1:123456789012:stateMachine:reports; null for all of them."
  }
}

variable "log_retention_days" {
  description = "For how long the log of what could not be told is kept, in days."
  type        = number
  default     = 30
  nullable    = false
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
  description = "ARN of the KMS key that encrypts the table, and the log; null where AWS has the keys."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
