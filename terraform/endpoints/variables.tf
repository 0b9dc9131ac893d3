variable "name" {
  description = "What the names of the endpoints begin with."
  type        = string
  default     = "haulage"
}

variable "vpc_id" {
  description = "The VPC. It needs DNS support and DNS host names turned on."
  type        = string
}

variable "subnet_ids" {
  description = "The private subnets in which the tasks run, one in each availability zone."
  type        = list(string)
}

variable "route_table_ids" {
  description = "The route tables of these subnets; by default all of the VPC."
  type        = list(string)
  default     = null
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
}
