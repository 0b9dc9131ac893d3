# The pipeline, and where it is.

variable "name" {
  description = "Name of the pipeline. Pipelines of one account have different ones, such as prod and staging, in different regions as well: names of roles are those of the account."
  type        = string
  default     = "haulage"
  nullable    = false

  validation {
    # The payload bucket leaves 27; the repository takes one hyphen at a time,
    # and two characters or more; parameters and security groups have beginnings
    # that AWS keeps for itself.
    condition     = can(regex("^[a-z0-9]+(-[a-z0-9]+)*$", var.name)) && length(var.name) >= 2 && length(var.name) <= 27 && !can(regex("^(aws|ssm|sg-)", var.name))
    error_message = "The name has 2 to 27 lower-case letters, digits or single hyphens, such as prod or speech-v2; it begins and ends with a letter or digit, and does not begin with aws, ssm or sg-."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "kms_key_arn" {
  description = "ARN of a KMS key that encrypts queues, table, bucket, logs and repository; null where AWS has the keys, which costs nothing. Its policy has to let CloudWatch Logs use it: modules/key makes one that does."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/", var.kms_key_arn))
    error_message = "The key is the ARN of one of KMS, not of an alias, such as arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab."
  }

  validation {
    condition     = var.kms_key_arn == null || try(split(":", var.kms_key_arn)[3] == data.aws_region.current.region, true)
    error_message = "The key is not in ${data.aws_region.current.region}, where what it is to encrypt is: make one there, or a replica of it."
  }
}

variable "permissions_boundary" {
  description = "ARN of a policy beyond which no role that is made here can go; null for none."
  type        = string
  default     = null
}

variable "iam_path" {
  description = "The path of the roles and policies that are made here, such as /pipelines/."
  type        = string
  default     = "/"
  nullable    = false
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
  nullable    = false
}

variable "subnet_ids" {
  description = "The subnets of the tasks. With endpoints, private ones: subnet_ids of the endpoints stack. Without, private ones with a route to a NAT gateway, or public ones with assign_public_ip."
  type        = list(string)
  nullable    = false
}

variable "sqs_vpc_endpoint_id" {
  description = "The SQS endpoint of the VPC: vpc_endpoints.sqs of the endpoints stack. Its security group lets the tasks in. Null: the tasks reach AWS, and everything else that speaks HTTPS, by the routes of their subnets."
  type        = string
  default     = null

  validation {
    condition     = var.sqs_vpc_endpoint_id == null || can(regex("^vpce-[0-9a-f]+$", var.sqs_vpc_endpoint_id))
    error_message = "An endpoint id looks like vpce-0123456789abcdef0; the endpoints stack prints it as vpc_endpoints.sqs."
  }
}

variable "use_vpc_endpoints" {
  description = "Whether the tasks go out through endpoints of the VPC, and nowhere else. Null: where sqs_vpc_endpoint_id is given. Say true if the same apply makes that endpoint, as it cannot be known in time whether it is null."
  type        = bool
  default     = null

  validation {
    condition     = var.use_vpc_endpoints == null || try(var.use_vpc_endpoints == (var.sqs_vpc_endpoint_id != null), true)
    error_message = "Either use_vpc_endpoints is true and sqs_vpc_endpoint_id is given, or neither."
  }
}

variable "endpoint_security_group_id" {
  description = "The security group that the interface endpoints of the VPC have in common; null where the SQS endpoint has just that one, as with the endpoints stack."
  type        = string
  default     = null
}

variable "assign_public_ip" {
  description = "Whether a task gets a public address, which it needs in a public subnet without endpoints. Nothing comes in there either."
  type        = bool
  default     = false
  nullable    = false
}

variable "egress_rules" {
  description = "Where else the tasks may go, by a name of the rule: cidr_blocks, ipv6_cidr_blocks or a security_group_id; protocol (default: tcp), from_port, to_port (default: from_port). Such as a database, or a file system."
  type = map(object({
    cidr_blocks       = optional(list(string))
    ipv6_cidr_blocks  = optional(list(string))
    security_group_id = optional(string)
    protocol          = optional(string, "tcp")
    from_port         = number
    to_port           = optional(number)
  }))
  default  = {}
  nullable = false
}

variable "security_group_ids" {
  description = "Further security groups of the tasks."
  type        = list(string)
  default     = []
  nullable    = false
}
