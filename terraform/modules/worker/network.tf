# Nothing comes in. Out goes HTTPS: with endpoints to those, and nowhere else;
# without, by the routes of the subnets; and what egress_rules name.

resource "aws_security_group" "worker" {
  name        = "${var.name}-worker"
  description = "Tasks of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-worker" })
}

resource "aws_security_group_rule" "endpoints_out" {
  count = var.use_vpc_endpoints ? 1 : 0

  description              = "AWS services through the interface endpoints"
  type                     = "egress"
  security_group_id        = aws_security_group.worker.id
  source_security_group_id = var.endpoint_security_group_id
  protocol                 = "tcp"
  from_port                = 443
  to_port                  = 443
}

resource "aws_security_group_rule" "gateways_out" {
  count = var.use_vpc_endpoints ? 1 : 0

  description       = "S3 and DynamoDB through the gateway endpoints"
  type              = "egress"
  security_group_id = aws_security_group.worker.id
  prefix_list_ids   = var.gateway_prefix_list_ids
  protocol          = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_security_group_rule" "endpoints_in" {
  count = var.use_vpc_endpoints ? 1 : 0

  description              = "Tasks of ${var.name}"
  type                     = "ingress"
  security_group_id        = var.endpoint_security_group_id
  source_security_group_id = aws_security_group.worker.id
  protocol                 = "tcp"
  from_port                = 443
  to_port                  = 443
}

resource "aws_security_group_rule" "https_out" {
  count = var.use_vpc_endpoints ? 0 : 1

  description       = "AWS services, and what else speaks HTTPS"
  type              = "egress"
  security_group_id = aws_security_group.worker.id
  cidr_blocks       = ["0.0.0.0/0"]
  ipv6_cidr_blocks  = ["::/0"]
  protocol          = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_security_group_rule" "more_out" {
  for_each = var.egress_rules

  description              = each.key
  type                     = "egress"
  security_group_id        = aws_security_group.worker.id
  source_security_group_id = each.value.security_group_id
  cidr_blocks              = each.value.cidr_blocks
  ipv6_cidr_blocks         = each.value.ipv6_cidr_blocks
  protocol                 = each.value.protocol
  from_port                = each.value.from_port
  to_port                  = coalesce(each.value.to_port, each.value.from_port)
}

# To the mount targets of file systems.
resource "aws_security_group_rule" "files_out" {
  for_each = { for name, files in local.file_systems : name => files.security_group_id if files.security_group_id != null }

  description              = "NFS to ${each.key}"
  type                     = "egress"
  security_group_id        = aws_security_group.worker.id
  source_security_group_id = each.value
  protocol                 = "tcp"
  from_port                = 2049
  to_port                  = 2049
}

resource "aws_security_group_rule" "files_in" {
  for_each = { for name, files in local.file_systems : name => files.security_group_id if files.security_group_id != null }

  description              = "NFS of ${var.name}"
  type                     = "ingress"
  security_group_id        = each.value
  source_security_group_id = aws_security_group.worker.id
  protocol                 = "tcp"
  from_port                = 2049
  to_port                  = 2049
}
