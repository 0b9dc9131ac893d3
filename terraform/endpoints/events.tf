# It is here, as there can be ten of it in a region, and any number of pipelines. The
# VPC is in its name, since another VPC of the region has a stack of its own.
module "event_logs" {
  source = "../modules/event_logs"

  policy_name = "${var.name}-${var.vpc_id}-events"
}
