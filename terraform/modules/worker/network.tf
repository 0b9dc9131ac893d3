# Nothing comes in; out goes HTTPS to the endpoints, and nowhere else.

resource "aws_security_group" "worker" {
  name        = "${var.name}-worker"
  description = "Tasks of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-worker" })
}

resource "aws_security_group_rule" "endpoints_out" {
  description              = "AWS services through the interface endpoints"
  type                     = "egress"
  security_group_id        = aws_security_group.worker.id
  source_security_group_id = var.endpoint_security_group_id
  protocol                 = "tcp"
  from_port                = 443
  to_port                  = 443
}

resource "aws_security_group_rule" "gateways_out" {
  description       = "S3 and DynamoDB through the gateway endpoints"
  type              = "egress"
  security_group_id = aws_security_group.worker.id
  prefix_list_ids   = var.gateway_prefix_list_ids
  protocol          = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_security_group_rule" "endpoints_in" {
  description              = "Tasks of ${var.name}"
  type                     = "ingress"
  security_group_id        = var.endpoint_security_group_id
  source_security_group_id = aws_security_group.worker.id
  protocol                 = "tcp"
  from_port                = 443
  to_port                  = 443
}
