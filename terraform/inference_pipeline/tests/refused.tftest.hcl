# Mistakes are told before anything is made.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_data "aws_vpc_endpoint" {
    defaults = { security_group_ids = ["sg-0123456789abcdef0"] }
  }
}

variables {
  vpc_id              = "vpc-0123456789abcdef0"
  subnet_ids          = ["subnet-0123456789abcdef0"]
  sqs_vpc_endpoint_id = "vpce-0123456789abcdef0"
  lambda_package      = "tests/package.zip"
}

run "a_name_with_capitals" {
  command = plan
  variables {
    name = "Prod"
  }
  expect_failures = [var.name]
}

run "an_endpoint_that_is_none" {
  command = plan
  variables {
    sqs_vpc_endpoint_id = "sqs"
  }
  expect_failures = [var.sqs_vpc_endpoint_id]
}

run "a_repository_with_a_tag" {
  command = plan
  variables {
    ecr = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/model:v1"
  }
  expect_failures = [var.ecr]
}

run "autoscaling_without_its_lambda" {
  command = plan
  variables {
    lambda_package = null
  }
  expect_failures = [var.enable_autoscaling]
}

run "no_backlog_at_all" {
  command = plan
  variables {
    approx_num_backlog_messages = 0
  }
  expect_failures = [var.approx_num_backlog_messages]
}
