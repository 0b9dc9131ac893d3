# A pipeline on GPUs, on instances of an Auto Scaling group of one's own, in private
# subnets with a NAT gateway: ECS starts instances for tasks that wait, and ends
# those without any.

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
  description = "The VPC."
  type        = string
  nullable    = false
}

variable "subnet_ids" {
  description = "Private subnets with a route to a NAT gateway, one in each availability zone."
  type        = list(string)
  nullable    = false
}

variable "lambda_package" {
  description = "Path of the zip of the scaling Lambda, from `make lambda`."
  type        = string
  nullable    = false
}

variable "most_instances" {
  description = "The most instances, of one GPU each."
  type        = number
  default     = 4
  nullable    = false
}

module "pipeline" {
  source = "../../inference_pipeline"

  name           = "gpu-ec2-demo"
  vpc_id         = var.vpc_id
  subnet_ids     = var.subnet_ids
  lambda_package = { path = var.lambda_package }
  container_tag  = "v1"
  cluster_arn    = aws_ecs_cluster.gpu.arn
  create_cluster = false
  # Once the cluster has it.
  capacity_provider      = one(aws_ecs_cluster_capacity_providers.gpu.capacity_providers)
  capacity_provider_type = "EC2"
  gpus                   = 1
  # A Python worker has a process for the GPU, and ends where that is broken, so that
  # its task is started elsewhere: docs/gpus.md.
  container_environment = { HAULAGE_GPUS = "all" }
  # Less than the instance has, as its own programs need some.
  cpu                              = 3072
  memory                           = 12288
  container                        = { shared_memory_mib = 4096 }
  health_check                     = { command = ["CMD", "haulage", "health"] }
  approx_num_backlog_messages      = 3
  service_autoscaling_min_capacity = 0
  service_autoscaling_max_capacity = var.most_instances
}

resource "aws_ecs_cluster" "gpu" {
  name = "gpu-ec2-demo"
}

resource "aws_ecs_cluster_capacity_providers" "gpu" {
  cluster_name       = aws_ecs_cluster.gpu.name
  capacity_providers = [aws_ecs_capacity_provider.gpu.name]
}

resource "aws_ecs_capacity_provider" "gpu" {
  name = "gpu-ec2-demo"

  auto_scaling_group_provider {
    auto_scaling_group_arn         = aws_autoscaling_group.gpu.arn
    managed_termination_protection = "ENABLED"
    managed_draining               = "ENABLED"

    managed_scaling {
      status = "ENABLED"
      # All instances are used before another one starts.
      target_capacity           = 100
      maximum_scaling_step_size = 4
    }
  }
}

resource "aws_autoscaling_group" "gpu" {
  name                = "gpu-ec2-demo"
  vpc_zone_identifier = var.subnet_ids
  min_size            = 0
  max_size            = var.most_instances
  # ECS takes it off instances without tasks.
  protect_from_scale_in = true

  mixed_instances_policy {
    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.gpu.id
        version            = aws_launch_template.gpu.latest_version
      }

      # A type for the smallest NVIDIA GPUs. More of them find capacity sooner.
      dynamic "override" {
        for_each = ["g4dn.xlarge", "g5.xlarge", "g6.xlarge"]

        content {
          instance_type = override.value
        }
      }
    }
  }

  # ECS looks for it.
  tag {
    key                 = "AmazonECSManaged"
    value               = "true"
    propagate_at_launch = true
  }

  lifecycle {
    # ECS scales it.
    ignore_changes = [desired_capacity]
  }
}

data "aws_ssm_parameter" "image" {
  name = "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
}

resource "aws_launch_template" "gpu" {
  name                   = "gpu-ec2-demo"
  image_id               = data.aws_ssm_parameter.image.insecure_value
  vpc_security_group_ids = [aws_security_group.instances.id]
  user_data = base64encode(<<-EOT
    #!/bin/sh
    cat >> /etc/ecs/ecs.config <<'CONFIG'
    ECS_CLUSTER=${aws_ecs_cluster.gpu.name}
    ECS_ENABLE_GPU_SUPPORT=true
    ECS_AWSVPC_BLOCK_IMDS=true
    CONFIG
  EOT
  )

  iam_instance_profile {
    arn = aws_iam_instance_profile.instances.arn
  }

  # Tasks have roles of their own, and nothing to ask the instance.
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size = 100
      volume_type = "gp3"
      encrypted   = "true"
    }
  }
}

resource "aws_security_group" "instances" {
  name        = "gpu-ec2-demo-instances"
  description = "Instances of gpu-ec2-demo"
  vpc_id      = var.vpc_id
  tags        = { Name = "gpu-ec2-demo-instances" }
}

resource "aws_vpc_security_group_egress_rule" "https" {
  description       = "ECS, ECR and logs"
  security_group_id = aws_security_group.instances.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

# What the agent on an instance does.
resource "aws_iam_role" "instances" {
  name               = "gpu-ec2-demo-instances"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

data "aws_iam_policy" "instances" {
  name = "AmazonEC2ContainerServiceforEC2Role"
}

resource "aws_iam_role_policy_attachment" "instances" {
  role       = aws_iam_role.instances.name
  policy_arn = data.aws_iam_policy.instances.arn
}

resource "aws_iam_instance_profile" "instances" {
  name = "gpu-ec2-demo-instances"
  role = aws_iam_role.instances.name
}

output "ecr_repository_url" {
  description = "Where to push the image."
  value       = module.pipeline.ecr_repository_url
}

output "haulage_url" {
  description = "HAULAGE_URL for producers."
  value       = module.pipeline.haulage_url
}
