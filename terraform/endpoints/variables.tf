variable "name" {
  description = "What the names of the endpoints begin with."
  type        = string
  default     = "haulage"
  nullable    = false
}

variable "vpc_id" {
  description = "The VPC. It needs DNS support and DNS host names turned on."
  type        = string
  nullable    = false
}

variable "subnet_ids" {
  description = "The private subnets in which the tasks run, one in each availability zone."
  type        = list(string)
  nullable    = false
}

variable "route_table_ids" {
  description = "The route tables of these subnets; by default all of the VPC, those of public subnets as well."
  type        = list(string)
  default     = null
}

variable "endpoints" {
  description = "The endpoints to make. Leave out what the VPC has already; add ecs, ecs_agent and ecs_telemetry where tasks run on instances, and in regions that were opened since December 2023; secretsmanager or ssm where they have secrets, and ssmmessages for enable_execute_command."
  type        = set(string)
  default     = ["ecr_api", "ecr_dkr", "logs", "sqs", "monitoring", "s3", "dynamodb"]
  nullable    = false
}

variable "client_security_groups" {
  description = "Who else in the VPC uses the interface endpoints, besides the tasks: security group ids by names of your choice, such as { web = \"sg-0123456789abcdef0\" }. Producers, and instances of ECS, belong here: without, they are cut off from these services."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "only_accounts" {
  description = "Whose principals and resources may be reached through the endpoints, besides those of this account: ids of accounts, such as one that has images; [] for none. So a task takes nothing out to a bucket or queue of somebody else. Null for no such policy."
  type        = list(string)
  default     = null
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
