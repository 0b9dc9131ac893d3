# A model server on GPUs behind a queue, in a VPC that is there: a worker hands it
# each job by HTTP. On ECS Managed Instances, which come and go with the tasks.

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

variable "server_image" {
  description = "The model server's image in ECR, with its tag, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com/server:v3. It answers POST /invocations on port 8080."
  type        = string
  nullable    = false
}

# The agent on an instance pulls the images and speaks to ECS, so instances
# have to reach the endpoints as the tasks do.
module "endpoints" {
  source = "../../endpoints"

  vpc_id     = var.vpc_id
  subnet_ids = var.subnet_ids
  endpoints = [
    "ecr_api", "ecr_dkr", "logs", "sqs", "s3", "dynamodb", "ecs", "ecs_agent", "ecs_telemetry",
  ]
  client_security_groups = { instances = aws_security_group.instances.id }
}

module "pipeline" {
  source = "../../inference_pipeline"

  name                = "gpu-demo"
  vpc_id              = var.vpc_id
  subnet_ids          = module.endpoints.subnet_ids
  sqs_vpc_endpoint_id = module.endpoints.vpc_endpoints.sqs
  use_vpc_endpoints   = true
  lambda_package      = { path = var.lambda_package }
  container_tag       = "v1"
  capacity_provider   = aws_ecs_capacity_provider.gpu.name
  # The worker's image has the program. It waits while the server loads its model.
  container_command = ["haulage", "worker", "--http", "http://127.0.0.1:8080/invocations"]
  health_check      = { command = ["CMD", "haulage", "health"] }
  sidecars = {
    model = { image = var.server_image, gpus = 1 }
  }
  # For loaders that share memory, such as PyTorch's.
  container_definitions = {
    model = { linuxParameters = { sharedMemorySize = 4096 } }
  }
  # Less than the instance has, as its own programs need some.
  cpu    = 3072
  memory = 12288
  # Instances take minutes to start, and cost while they do.
  approx_num_backlog_messages      = 3
  service_autoscaling_min_capacity = 0
  service_autoscaling_max_capacity = 4
}

# It belongs to the pipeline's cluster, and the pipeline's service to it.
resource "aws_ecs_capacity_provider" "gpu" {
  name    = "gpu-demo"
  cluster = module.pipeline.cluster_name

  managed_instances_provider {
    infrastructure_role_arn = aws_iam_role.infrastructure.arn
    propagate_tags          = "CAPACITY_PROVIDER"

    instance_launch_template {
      ec2_instance_profile_arn = aws_iam_instance_profile.instances.arn

      network_configuration {
        subnets         = var.subnet_ids
        security_groups = [aws_security_group.instances.id]
      }

      storage_configuration {
        storage_size_gib = 100
      }

      # A type for the smallest NVIDIA GPUs. More of them find capacity sooner.
      instance_requirements {
        allowed_instance_types    = ["g4dn.xlarge", "g5.xlarge", "g6.xlarge"]
        accelerator_types         = ["gpu"]
        accelerator_manufacturers = ["nvidia"]

        accelerator_count {
          min = 1
        }

        vcpu_count {
          min = 4
        }

        memory_mib {
          min = 16384
        }
      }
    }
  }

  depends_on = [
    aws_iam_role_policy_attachment.infrastructure,
    aws_iam_role_policy_attachment.instances,
  ]
}

resource "aws_security_group" "instances" {
  name        = "gpu-demo-instances"
  description = "Instances of gpu-demo"
  vpc_id      = var.vpc_id
  tags        = { Name = "gpu-demo-instances" }
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  description                  = "AWS services through the interface endpoints"
  security_group_id            = aws_security_group.instances.id
  referenced_security_group_id = module.endpoints.security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

data "aws_region" "current" {}

data "aws_prefix_list" "s3" {
  name = "com.amazonaws.${data.aws_region.current.region}.s3"
}

resource "aws_vpc_security_group_egress_rule" "image_layers" {
  description       = "Image layers in S3, through the gateway endpoint"
  security_group_id = aws_security_group.instances.id
  prefix_list_id    = data.aws_prefix_list.s3.id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

# What ECS does to start and end instances.
resource "aws_iam_role" "infrastructure" {
  name               = "gpu-demo-infrastructure"
  assume_role_policy = data.aws_iam_policy_document.assume["ecs.amazonaws.com"].json
}

resource "aws_iam_role_policy_attachment" "infrastructure" {
  role       = aws_iam_role.infrastructure.name
  policy_arn = data.aws_iam_policy.managed["AmazonECSInfrastructureRolePolicyForManagedInstances"].arn
}

# What the agent on an instance does. The policy above passes on roles of names
# that begin so, and no others.
resource "aws_iam_role" "instances" {
  name               = "ecsInstanceRole-gpu-demo"
  assume_role_policy = data.aws_iam_policy_document.assume["ec2.amazonaws.com"].json
}

resource "aws_iam_role_policy_attachment" "instances" {
  role       = aws_iam_role.instances.name
  policy_arn = data.aws_iam_policy.managed["AmazonECSInstanceRolePolicyForManagedInstances"].arn
}

resource "aws_iam_instance_profile" "instances" {
  name = "ecsInstanceRole-gpu-demo"
  role = aws_iam_role.instances.name
}

data "aws_iam_policy" "managed" {
  for_each = toset([
    "AmazonECSInfrastructureRolePolicyForManagedInstances", "AmazonECSInstanceRolePolicyForManagedInstances",
  ])

  name = each.value
}

data "aws_iam_policy_document" "assume" {
  for_each = toset(["ecs.amazonaws.com", "ec2.amazonaws.com"])

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = [each.value]
    }
  }
}

output "ecr_repository_url" {
  description = "Where to push the image."
  value       = module.pipeline.ecr_repository_url
}

output "haulage_url" {
  description = "HAULAGE_URL for producers."
  value       = module.pipeline.haulage_url
}
