# What tasks without a way out to the internet need of AWS: to pull their
# image, to log, to reach the queue, the records and large payloads.

locals {
  interfaces = {
    ecr_api = "ecr.api"
    ecr_dkr = "ecr.dkr"
    logs    = "logs"
    sqs     = "sqs"
    # Workers put their metrics into the logs. This is for handlers that call
    # CloudWatch themselves, which would else wait in vain.
    monitoring = "monitoring"
    # What the agent on an instance speaks to; in newer regions that of Fargate, too (see older_regions).
    ecs           = "ecs"
    ecs_agent     = "ecs-agent"
    ecs_telemetry = "ecs-telemetry"
    # Secrets of tasks, and a shell in them.
    secretsmanager = "secretsmanager"
    ssm            = "ssm"
    ssmmessages    = "ssmmessages"
  }
  gateways = {
    # Image layers come from S3 as well.
    s3       = "s3"
    dynamodb = "dynamodb"
  }
  # Those of the endpoints, as policies name them.
  services = [
    "cloudwatch", "dynamodb", "ecr", "ecs", "logs", "s3", "secretsmanager", "sqs", "ssm", "ssmmessages",
  ]
  accounts        = concat([data.aws_caller_identity.current.account_id], coalesce(var.only_accounts, []))
  policy          = var.only_accounts == null ? null : data.aws_iam_policy_document.own.json
  route_table_ids = var.route_table_ids != null ? var.route_table_ids : data.aws_route_tables.all[0].ids

  # In regions that are newer than these, Fargate's agent speaks to ECS through the
  # VPC, too (ECS Developer Guide, "Amazon ECS interface VPC endpoints": those opened
  # since December 2023). No older one is opened any more, so the list stays as it is.
  older_regions = [
    "af-south-1", "ap-east-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2",
    "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ca-central-1", "cn-north-1",
    "cn-northwest-1", "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1",
    "eu-west-2", "eu-west-3", "il-central-1", "me-central-1", "me-south-1", "sa-east-1", "us-east-1", "us-east-2",
    "us-gov-east-1", "us-gov-west-1", "us-west-1", "us-west-2",
  ]
  missing_of_ecs = setsubtract(["ecs", "ecs_agent", "ecs_telemetry"], var.endpoints)
}

# A warning and no error: the VPC may have them already.
check "tasks_reach_ecs" {
  assert {
    condition     = contains(local.older_regions, data.aws_region.current.region) || length(local.missing_of_ecs) == 0
    error_message = "In ${data.aws_region.current.region}, tasks without a way out to the internet need endpoints for ECS itself, on Fargate too: add ${join(", ", local.missing_of_ecs)} to endpoints, unless the VPC has them already."
  }
}

data "aws_region" "current" {}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

# What may go through an endpoint: principals and resources of these accounts. Some
# calls know no resource. Image layers are in a bucket of ECR (Amazon ECR User
# Guide, "Minimum Amazon S3 bucket permissions").
data "aws_iam_policy_document" "own" {
  statement {
    sid       = "OwnAccounts"
    actions   = [for service in local.services : "${service}:*"]
    resources = ["*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:PrincipalAccount"
      values   = local.accounts
    }

    condition {
      test     = "StringEqualsIfExists"
      variable = "aws:ResourceAccount"
      values   = local.accounts
    }
  }

  statement {
    sid       = "ImageLayers"
    actions   = ["s3:GetObject"]
    resources = ["arn:${data.aws_partition.current.partition}:s3:::prod-${data.aws_region.current.region}-starport-layer-bucket/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }
  }
}

data "aws_route_tables" "all" {
  count  = var.route_table_ids == null ? 1 : 0
  vpc_id = var.vpc_id
}

# Each pipeline lets its own tasks in; who else may come in is said below.
resource "aws_security_group" "endpoints" {
  name        = "${var.name}-endpoints"
  description = "VPC endpoints of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-endpoints" })
}

# With private DNS, the names of these services lead all of the VPC here, and
# not only the tasks: who is not let in reaches none of them any more.
resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = var.client_security_groups

  description                  = each.key
  security_group_id            = aws_security_group.endpoints.id
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  tags                         = var.tags
}

resource "aws_vpc_endpoint" "interface" {
  for_each = { for name, service in local.interfaces : name => service if contains(var.endpoints, name) }

  vpc_id              = var.vpc_id
  service_name        = "com.amazonaws.${data.aws_region.current.region}.${each.value}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = var.subnet_ids
  security_group_ids  = [aws_security_group.endpoints.id]
  private_dns_enabled = true
  policy              = local.policy
  tags                = merge(var.tags, { Name = "${var.name}-${each.value}" })
}

resource "aws_vpc_endpoint" "gateway" {
  for_each = { for name, service in local.gateways : name => service if contains(var.endpoints, name) }

  vpc_id            = var.vpc_id
  service_name      = "com.amazonaws.${data.aws_region.current.region}.${each.value}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = local.route_table_ids
  policy            = local.policy
  tags              = merge(var.tags, { Name = "${var.name}-${each.value}" })
}
