mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/made-up" }
  }
  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:made-up" }
  }
  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/made-up" }
  }
}

variables {
  lambda_package = { path = "../inference_pipeline/tests/package.zip" }
  pairs = {
    web   = { cluster = "shop", service = "thumbnails", queue = "thumbnails", slots_per_task = 4 }
    batch = { cluster = "shop", service = "reports", queue = "reports.fifo", scaler = "alarms" }
  }
}

run "services_that_are_there" {
  assert {
    condition     = length(module.scaling_alarms) == 0 && output.lambda_name == "haulage-autoscale" && length(output.alarm_names) == 2
    error_message = "One Lambda for both."
  }
}

run "with_alarms_that_nobody_else_makes" {
  variables {
    make_scaling_alarms = true
  }
  assert {
    condition     = toset(keys(module.scaling_alarms)) == toset(["batch"])
    error_message = "For those that alarms scale."
  }
}

run "refused" {
  command = plan
  variables {
    name = "my scaler"
  }
  expect_failures = [var.name]
}
