# What is set up, against the current provider's schema, with made-up ids.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_vpc_endpoint" {
    defaults = { security_group_ids = ["sg-0123456789abcdef0"] }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:jobs" }
  }
}

variables {
  name                = "jobs"
  vpc_id              = "vpc-0123456789abcdef0"
  subnet_ids          = ["subnet-0123456789abcdef0"]
  sqs_vpc_endpoint_id = "vpce-0123456789abcdef0"
  lambda_package      = "tests/package.zip"
}

run "defaults" {
  assert {
    condition     = output.queue_name == "jobs.fifo" && output.dlq_name == "jobs-dlq.fifo" && output.table_name == "jobs-records"
    error_message = "Names follow from the pipeline's."
  }
  assert {
    condition     = startswith(output.haulage_url, "sqs://jobs.fifo?table=jobs-records&region=eu-central-1&bucket=")
    error_message = "Producers get a URL that the command line takes."
  }
  assert {
    condition     = length(output.alarm_names) == 6
    error_message = "Six alarms."
  }
  assert {
    condition     = toset(keys(aws_ssm_parameter.this)) == toset(["queue_name", "table_name"])
    error_message = "The names can be looked up."
  }
  assert {
    condition     = aws_ecr_repository.this[0].image_scanning_configuration[0].scan_on_push
    error_message = "Without a repository one is made, that scans."
  }
}

run "as_little_as_can_be" {
  variables {
    enable_autoscaling = false
    enable_alarms      = false
    payload_bucket     = false
    queue_fifo         = false
    lambda_package     = null
    ecr                = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/model"
  }

  assert {
    condition     = output.queue_name == "jobs" && output.bucket_name == null && output.alarm_names == []
    error_message = "What is not wanted is not made."
  }
  assert {
    condition     = length(aws_ecr_repository.this) == 0 && output.ecr_repository_url == var.ecr
    error_message = "The repository that is given is used."
  }
  assert {
    condition     = local.repository_arn == "arn:aws:ecr:eu-central-1:123456789012:repository/team/model"
    error_message = "The tasks may pull from that repository alone: ${local.repository_arn}"
  }
}

run "gpus_on_a_capacity_provider" {
  variables {
    gpus              = 1
    capacity_provider = "gpu-instances"
    cpu               = 7000
    memory            = 30000
  }

  assert {
    condition     = output.service_name == "jobs"
    error_message = "What Fargate has not can be had elsewhere, in any size."
  }
}
