# Once for each VPC: the endpoints through which all pipelines reach AWS.

module "endpoints" {
  source = "../modules/endpoints"

  name                   = var.name
  vpc_id                 = var.vpc_id
  subnet_ids             = var.subnet_ids
  route_table_ids        = var.route_table_ids
  endpoints              = var.endpoints
  client_security_groups = var.client_security_groups
  only_accounts          = var.only_accounts
  tags                   = var.tags
}
