# What it is, and what it works on.

variable "name" {
  description = "Name of the service and all that belongs to it, and of the cluster, if one is made."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,49}$", var.name)) && !startswith(var.name, "sg-")
    error_message = "The name has 1 to 50 lower-case letters, digits or hyphens, begins with a letter or digit, and not with \"sg-\", which is for ids of security groups."
  }
}

variable "create_cluster" {
  description = "Whether to make a cluster, of this name; else cluster_arn says which there is."
  type        = bool
  default     = true
  nullable    = false
}

variable "more_capacity_providers" {
  description = "Further capacity providers of the cluster that is made, for other services in it."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "cluster_arn" {
  description = "ARN of a cluster that is there already. It has the capacity providers that the tasks need: FARGATE and FARGATE_SPOT, or capacity_provider."
  type        = string
  default     = null

  validation {
    condition     = var.create_cluster == (var.cluster_arn == null)
    error_message = "Either create_cluster is true, or cluster_arn is the ARN of a cluster."
  }

  validation {
    condition     = var.cluster_arn == null || can(regex("^arn:[^:]+:ecs:[^:]+:[0-9]{12}:cluster/[A-Za-z0-9_-]+$", var.cluster_arn))
    error_message = "The cluster is an ARN, such as arn:aws:ecs:eu-central-1:123456789012:cluster/shared."
  }
}

variable "queue_name" {
  description = "Name of the queue."
  type        = string
  nullable    = false
}

variable "queues" {
  description = "The queues of the store that the tasks serve, in this order; default is the one without a name. Empty for that one alone."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "table_name" {
  description = "Name of the table of records."
  type        = string
  nullable    = false
}

variable "bucket_name" {
  description = "Name of the bucket for large payloads, of this account; null where there is none."
  type        = string
  default     = null
}

variable "consume_policy" {
  description = "What the tasks may do to the jobs, as a policy in JSON: consume_policy of modules/access."
  type        = string
  nullable    = false
}

variable "log_retention_days" {
  description = "For how long logs are kept, in days."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "permissions_boundary" {
  description = "ARN of a policy beyond which no role that is made here can go; null for none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:[^:]+:iam::([0-9]{12}|aws):policy/", var.permissions_boundary))
    error_message = "A permissions boundary is the ARN of a policy, such as arn:aws:iam::123456789012:policy/boundary."
  }
}

variable "iam_path" {
  description = "The path of the roles and policies that are made here."
  type        = string
  default     = "/"
  nullable    = false

  validation {
    condition     = can(regex("^/([!-.0-~]+/)*$", var.iam_path))
    error_message = "A path begins and ends with a slash, such as /pipelines/."
  }
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that encrypts the log; null for one of CloudWatch. Its policy has to let CloudWatch Logs use it, as that of modules/key does."
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
