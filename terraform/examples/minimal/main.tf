# The smallest set-up: endpoints and one pipeline in a VPC that is there. No task
# runs before there is a job, so the image may come after it. With `make lambda`
# done at the top of the repository, and the first three variables in
# terraform.tfvars:
#
#   terraform init
#   terraform apply
#   …                            # build and push the image: docs/deploy.md

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.15, < 7"
    }
  }
}

variable "vpc_id" {
  description = "The VPC, with DNS support and DNS host names turned on."
  type        = string
  nullable    = false
}

variable "subnet_ids" {
  description = "Private subnets, one in each availability zone."
  type        = list(string)
  nullable    = false
}

variable "lambda_package" {
  description = "Path of the zip of the scaling Lambda, from `make lambda`."
  type        = string
  nullable    = false
}

variable "container_tag" {
  description = "Tag of the image. It never moves: the next image has another one."
  type        = string
  default     = "v1"
  nullable    = false
}

variable "cpu_architecture" {
  description = "X86_64 or ARM64, as the image is built: on a machine with an Arm processor, such as Apple Silicon, ARM64 is built much faster."
  type        = string
  default     = "X86_64"
  nullable    = false
}

module "endpoints" {
  source = "../../endpoints"

  vpc_id     = var.vpc_id
  subnet_ids = var.subnet_ids
}

module "pipeline" {
  source = "../../inference_pipeline"

  name                             = "demo"
  vpc_id                           = var.vpc_id
  subnet_ids                       = module.endpoints.subnet_ids
  sqs_vpc_endpoint_id              = module.endpoints.vpc_endpoints.sqs
  use_vpc_endpoints                = true
  lambda_package                   = { path = var.lambda_package }
  container_tag                    = var.container_tag
  cpu_architecture                 = var.cpu_architecture
  service_autoscaling_min_capacity = 0
  # The Dockerfile beside this has it.
  health_check = { command = ["CMD", "haulage", "health"] }
  # It is for a try, so a destroy takes all.
  ecr_force_delete                        = true
  payload_bucket_force_destroy            = true
  dynamodb_deletion_protection_enabled    = false
  dynamodb_point_in_time_recovery_enabled = false
}

output "ecr_repository_url" {
  description = "Where to push the image."
  value       = module.pipeline.ecr_repository_url
}

output "policy_arns" {
  description = "IAM policies for programs that submit, read or cancel, and for people who operate."
  value       = module.pipeline.policy_arns
}

output "haulage_url" {
  description = "HAULAGE_URL for producers."
  value       = module.pipeline.haulage_url
}
