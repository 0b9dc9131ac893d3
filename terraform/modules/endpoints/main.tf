# What tasks without a way out to the internet need of AWS: to pull their
# image, to log, to reach the queue, the records and large payloads.

locals {
  interfaces = {
    ecr_api    = "ecr.api"
    ecr_dkr    = "ecr.dkr"
    logs       = "logs"
    sqs        = "sqs"
    monitoring = "monitoring"
  }
  gateways = {
    # Image layers come from S3 as well.
    s3       = "s3"
    dynamodb = "dynamodb"
  }
  route_table_ids = var.route_table_ids != null ? var.route_table_ids : data.aws_route_tables.all[0].ids
}

data "aws_region" "current" {}

data "aws_route_tables" "all" {
  count  = var.route_table_ids == null ? 1 : 0
  vpc_id = var.vpc_id
}

# Who may come in is said by each pipeline, which adds its own tasks.
resource "aws_security_group" "endpoints" {
  name        = "${var.name}-endpoints"
  description = "VPC endpoints of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-endpoints" })
}

resource "aws_vpc_endpoint" "interface" {
  for_each = local.interfaces

  vpc_id              = var.vpc_id
  service_name        = "com.amazonaws.${data.aws_region.current.region}.${each.value}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = var.subnet_ids
  security_group_ids  = [aws_security_group.endpoints.id]
  private_dns_enabled = true
  tags                = merge(var.tags, { Name = "${var.name}-${each.value}" })
}

resource "aws_vpc_endpoint" "gateway" {
  for_each = local.gateways

  vpc_id            = var.vpc_id
  service_name      = "com.amazonaws.${data.aws_region.current.region}.${each.value}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = local.route_table_ids
  tags              = merge(var.tags, { Name = "${var.name}-${each.value}" })
}
