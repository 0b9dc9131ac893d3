# A VPC without a way out to the internet, and in it prod and staging beside
# each other, with images from one repository. That comes first, as tasks that
# find no image fail:
#
#   terraform apply -target=module.repository
#   …                            # push v1 and v2-rc1: docs/deploy.md
#   terraform apply

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.15, < 7"
    }
  }
}

variable "lambda_package" {
  description = "Path of the zip of the scaling Lambda, from `make lambda`."
  type        = string
  nullable    = false
}

variable "alert_email" {
  description = "Who is told of alarms; null for nobody."
  type        = string
  default     = null
}

data "aws_availability_zones" "all" {
  state = "available"
}

resource "aws_vpc" "this" {
  cidr_block           = "10.20.0.0/16"
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = "haulage" }
}

# What nobody should use: it lets nothing in or out.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id
}

resource "aws_subnet" "private" {
  count = 2

  vpc_id            = aws_vpc.this.id
  cidr_block        = cidrsubnet(aws_vpc.this.cidr_block, 4, count.index)
  availability_zone = data.aws_availability_zones.all.names[count.index]
  tags              = { Name = "haulage-private-${count.index}" }
}

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = "haulage-private" }

  lifecycle {
    # The gateway endpoints add their routes.
    ignore_changes = [route]
  }
}

resource "aws_route_table_association" "private" {
  count = 2

  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private.id
}

# Images of both pipelines count among those that are kept.
module "repository" {
  source = "../../modules/repository"

  name           = "haulage-model"
  immutable_tags = true
  keep_images    = 30
  force_delete   = false
  kms_key_arn    = module.key.arn
  tags           = {}
}

# Encrypts what prod stores, and what its alarms tell. CloudWatch cannot publish
# to a topic under the key that AWS manages.
module "key" {
  source = "../../modules/key"

  name                 = "haulage-prod"
  description          = "What the pipeline prod stores, and its alarms"
  services             = ["cloudwatch.amazonaws.com"]
  deletion_window_days = 7
  tags                 = {}
}

resource "aws_sns_topic" "alerts" {
  name              = "haulage-alerts"
  kms_master_key_id = module.key.arn
}

resource "aws_sns_topic_subscription" "alerts" {
  count = var.alert_email == null ? 0 : 1

  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = var.alert_email
}

module "endpoints" {
  source = "../../endpoints"

  vpc_id          = aws_vpc.this.id
  subnet_ids      = aws_subnet.private[*].id
  route_table_ids = [aws_route_table.private.id]
}

module "prod" {
  source = "../../inference_pipeline"

  name                             = "prod"
  vpc_id                           = aws_vpc.this.id
  subnet_ids                       = module.endpoints.subnet_ids
  sqs_vpc_endpoint_id              = module.endpoints.vpc_endpoints.sqs
  use_vpc_endpoints                = true
  ecr                              = module.repository.url
  create_repository                = false
  container_tag                    = "v1"
  lambda_package                   = { path = var.lambda_package }
  cpu                              = 4096
  memory                           = 16384
  concurrency                      = 2
  avg_msg_proc_time_seconds        = 120
  approx_num_backlog_messages      = 3
  service_autoscaling_min_capacity = 1
  service_autoscaling_max_capacity = 50
  kms_key_arn                      = module.key.arn
  alarms                           = { topic_arn = aws_sns_topic.alerts.arn }
  enable_dashboard                 = true
  health_check                     = { command = ["CMD", "haulage", "health"] }
  tags                             = { environment = "prod" }
}

# To zero when nobody works, and on Spot.
module "staging" {
  source = "../../inference_pipeline"

  name                                 = "staging"
  vpc_id                               = aws_vpc.this.id
  subnet_ids                           = module.endpoints.subnet_ids
  sqs_vpc_endpoint_id                  = module.endpoints.vpc_endpoints.sqs
  use_vpc_endpoints                    = true
  ecr                                  = module.repository.url
  create_repository                    = false
  container_tag                        = "v2-rc1"
  lambda_package                       = { path = var.lambda_package }
  fargate                              = { weight = 0, spot_weight = 1 }
  service_autoscaling_min_capacity     = 0
  service_autoscaling_max_capacity     = 3
  payload_bucket_force_destroy         = true
  dynamodb_deletion_protection_enabled = false
  health_check                         = { command = ["CMD", "haulage", "health"] }
  tags                                 = { environment = "staging" }
}

output "ecr_repository_url" {
  description = "Where to push the images."
  value       = module.repository.url
}

output "prod" {
  description = "HAULAGE_URL of prod."
  value       = module.prod.haulage_url
}

output "staging" {
  description = "HAULAGE_URL of staging."
  value       = module.staging.haulage_url
}
