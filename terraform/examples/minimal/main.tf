# The smallest set-up: endpoints and one pipeline in a VPC that is there. With
# `make lambda` done at the top of the repository:
#
#   terraform init
#   terraform apply -var vpc_id=vpc-… -var 'subnet_ids=["subnet-…"]' \
#     -var lambda_package=../../../.tools/lambda/haulage-autoscale-arm64.zip

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0"
    }
  }
}

variable "vpc_id" {
  description = "The VPC, with DNS support and DNS host names turned on."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets, one in each availability zone."
  type        = list(string)
}

variable "lambda_package" {
  description = "Path of the zip of the scaling Lambda, from `make lambda`."
  type        = string
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
  lambda_package                   = var.lambda_package
  service_autoscaling_min_capacity = 0
}

output "ecr_repository_url" {
  description = "Where to push the image."
  value       = module.pipeline.ecr_repository_url
}

output "haulage_url" {
  description = "HAULAGE_URL for producers."
  value       = module.pipeline.haulage_url
}
