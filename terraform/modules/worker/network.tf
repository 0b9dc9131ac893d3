# Nothing comes in. Out goes HTTPS: with endpoints to those, and nowhere else;
# without, by the routes of the subnets; and what egress_rules name.

locals {
  # A rule has one target. Names and blocks are known before security groups are.
  more_rules = merge([for name, rule in var.egress_rules : merge(
    rule.security_group_id == null ? {} : { (name) = merge(rule, { group = rule.security_group_id, ipv4 = null, ipv6 = null }) },
    { for block in coalesce(rule.cidr_blocks, []) : "${name} ${block}" => merge(rule, { group = null, ipv4 = block, ipv6 = null }) },
    { for block in coalesce(rule.ipv6_cidr_blocks, []) : "${name} ${block}" => merge(rule, { group = null, ipv4 = null, ipv6 = block }) },
  )]...)
  # The security groups of the mount targets of file systems.
  file_groups = { for name, files in local.file_systems : name => files.security_group_id if files.security_group_id != null }
}

resource "aws_security_group" "worker" {
  name        = "${var.name}-worker"
  description = "Tasks of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-worker" })
}

resource "aws_vpc_security_group_egress_rule" "endpoints_out" {
  count = var.use_vpc_endpoints ? 1 : 0

  description                  = "AWS services through the interface endpoints"
  security_group_id            = aws_security_group.worker.id
  referenced_security_group_id = var.endpoint_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  tags                         = var.tags
}

resource "aws_vpc_security_group_egress_rule" "gateways_out" {
  count = var.use_vpc_endpoints ? length(var.gateway_prefix_list_ids) : 0

  description       = "S3 and DynamoDB through the gateway endpoints"
  security_group_id = aws_security_group.worker.id
  prefix_list_id    = var.gateway_prefix_list_ids[count.index]
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  tags              = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "endpoints_in" {
  count = var.use_vpc_endpoints ? 1 : 0

  description                  = "Tasks of ${var.name}"
  security_group_id            = var.endpoint_security_group_id
  referenced_security_group_id = aws_security_group.worker.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  tags                         = var.tags
}

resource "aws_vpc_security_group_egress_rule" "https_out" {
  count = var.use_vpc_endpoints ? 0 : 1

  description       = "AWS services, and what else speaks HTTPS"
  security_group_id = aws_security_group.worker.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  tags              = var.tags
}

resource "aws_vpc_security_group_egress_rule" "https_out_ipv6" {
  count = var.use_vpc_endpoints ? 0 : 1

  description       = "The same by IPv6"
  security_group_id = aws_security_group.worker.id
  cidr_ipv6         = "::/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  tags              = var.tags
}

resource "aws_vpc_security_group_egress_rule" "more_out" {
  for_each = local.more_rules

  description                  = each.key
  security_group_id            = aws_security_group.worker.id
  referenced_security_group_id = each.value.group
  cidr_ipv4                    = each.value.ipv4
  cidr_ipv6                    = each.value.ipv6
  ip_protocol                  = each.value.protocol
  from_port                    = each.value.from_port
  to_port                      = coalesce(each.value.to_port, each.value.from_port)
  tags                         = var.tags
}

resource "aws_vpc_security_group_egress_rule" "files_out" {
  for_each = local.file_groups

  description                  = "NFS to ${each.key}"
  security_group_id            = aws_security_group.worker.id
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
  tags                         = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "files_in" {
  for_each = local.file_groups

  description                  = "NFS of ${var.name}"
  security_group_id            = each.value
  referenced_security_group_id = aws_security_group.worker.id
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
  tags                         = var.tags
}
