mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_route_tables" {
    defaults = { ids = ["rtb-1", "rtb-2"] }
  }
}

variables {
  vpc_id     = "vpc-0123456789abcdef0"
  subnet_ids = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
}

run "private_dns_in_all_subnets" {
  assert {
    condition     = alltrue([for endpoint in aws_vpc_endpoint.interface : endpoint.private_dns_enabled && endpoint.subnet_ids == toset(var.subnet_ids)])
    error_message = "Without private DNS the SDK would not find the endpoints."
  }
  assert {
    condition     = alltrue([for endpoint in aws_vpc_endpoint.gateway : endpoint.route_table_ids == toset(["rtb-1", "rtb-2"])])
    error_message = "All route tables of the VPC get the routes."
  }
  assert {
    condition     = aws_vpc_endpoint.interface["ecr_dkr"].service_name == "com.amazonaws.eu-central-1.ecr.dkr"
    error_message = "Services are those of the region."
  }
}

run "route_tables_that_are_named" {
  variables {
    route_table_ids = ["rtb-9"]
    endpoints       = ["s3", "dynamodb"]
  }
  assert {
    condition     = aws_vpc_endpoint.gateway["s3"].route_table_ids == toset(["rtb-9"]) && length(data.aws_route_tables.all) == 0
    error_message = "Only these get the routes."
  }
  assert {
    condition     = length(aws_vpc_endpoint.interface) == 0 && toset(keys(output.vpc_endpoints)) == toset(["s3", "dynamodb"])
    error_message = "What the VPC has already is left out."
  }
}

run "tasks_on_instances" {
  variables {
    endpoints              = ["ecr_api", "ecr_dkr", "logs", "sqs", "ecs", "ecs_agent", "ecs_telemetry", "s3", "dynamodb"]
    client_security_groups = { instances = "sg-0123456789abcdef0", web = "sg-0123456789abcdef1" }
  }
  assert {
    condition     = aws_vpc_endpoint.interface["ecs_agent"].service_name == "com.amazonaws.eu-central-1.ecs-agent" && !contains(keys(aws_vpc_endpoint.interface), "monitoring")
    error_message = "The agent reaches ECS."
  }
  assert {
    condition = alltrue([for name, rule in aws_vpc_security_group_ingress_rule.clients :
    rule.referenced_security_group_id == var.client_security_groups[name] && rule.from_port == 443 && rule.to_port == 443])
    error_message = "Each client is let in, to HTTPS."
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.clients) == 2
    error_message = "Nobody else is."
  }
}

run "refuses_what_is_unknown" {
  command = plan

  variables {
    name                   = "sg-mine"
    endpoints              = ["ecr.api"]
    client_security_groups = { web = "web" }
    route_table_ids        = []
  }

  expect_failures = [var.name, var.endpoints, var.client_security_groups, var.route_table_ids]
}

run "refuses_what_is_no_vpc" {
  command = plan

  variables {
    vpc_id = "my-vpc"
  }

  expect_failures = [var.vpc_id]
}

run "refuses_no_subnets" {
  command = plan

  variables {
    subnet_ids = []
  }

  expect_failures = [var.subnet_ids]
}

run "nothing_of_other_accounts" {
  variables {
    only_accounts = ["210987654321"]
  }
  assert {
    condition     = alltrue([for endpoint in concat(values(aws_vpc_endpoint.interface), values(aws_vpc_endpoint.gateway)) : endpoint.policy == data.aws_iam_policy_document.own.json])
    error_message = "Each endpoint has the policy."
  }
  assert {
    condition     = alltrue([for condition in data.aws_iam_policy_document.own.statement[0].condition : condition.values == tolist(["123456789012", "210987654321"])])
    error_message = "Who calls, and what is called, is of these accounts."
  }
  assert {
    condition     = one(data.aws_iam_policy_document.own.statement[1].resources) == "arn:aws:s3:::prod-eu-central-1-starport-layer-bucket/*"
    error_message = "Image layers can be had."
  }
}

run "an_account_that_is_none" {
  command = plan
  variables {
    only_accounts = ["prod"]
  }
  expect_failures = [var.only_accounts]
}

run "a_region_in_which_fargate_speaks_to_ecs_through_the_vpc" {
  command = plan
  override_data {
    target = data.aws_region.current
    values = { region = "ca-west-1" }
  }
  expect_failures = [check.tasks_reach_ecs]
}

run "which_has_the_endpoints_for_it" {
  command = plan
  override_data {
    target = data.aws_region.current
    values = { region = "ca-west-1" }
  }
  variables {
    endpoints = ["ecr_api", "ecr_dkr", "logs", "sqs", "ecs", "ecs_agent", "ecs_telemetry", "s3", "dynamodb"]
  }
  assert {
    condition     = length(local.missing_of_ecs) == 0
    error_message = "Nothing is missing there."
  }
}
