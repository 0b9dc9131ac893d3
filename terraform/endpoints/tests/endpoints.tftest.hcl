mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_data "aws_route_tables" {
    defaults = { ids = ["rtb-1", "rtb-2"] }
  }
}

variables {
  vpc_id     = "vpc-0123456789abcdef0"
  subnet_ids = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
}

run "tells_what_pipelines_need" {
  assert {
    condition     = toset(keys(output.vpc_endpoints)) == toset(["dynamodb", "ecr_api", "ecr_dkr", "logs", "monitoring", "s3", "sqs"])
    error_message = "Seven endpoints: five interfaces and two gateways."
  }
  assert {
    condition     = output.subnet_ids == tolist(var.subnet_ids)
    error_message = "The subnets are handed on."
  }
}
