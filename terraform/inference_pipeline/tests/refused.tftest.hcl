# Mistakes are told before anything is made.

mock_provider "aws" {
  mock_resource "aws_ecs_cluster" {
    defaults = { arn = "arn:aws:ecs:eu-central-1:123456789012:cluster/jobs" }
  }
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_data "aws_vpc_endpoint" {
    defaults = { security_group_ids = ["sg-0123456789abcdef0"], vpc_id = "vpc-0123456789abcdef0" }
  }
}

variables {
  vpc_id              = "vpc-0123456789abcdef0"
  subnet_ids          = ["subnet-0123456789abcdef0"]
  sqs_vpc_endpoint_id = "vpce-0123456789abcdef0"
  lambda_package      = { path = "tests/package.zip" }
  container_tag       = "v1"
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

run "endpoints_that_are_not_named" {
  command = plan
  variables {
    sqs_vpc_endpoint_id = null
    use_vpc_endpoints   = true
  }
  expect_failures = [var.use_vpc_endpoints]
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

run "a_name_of_one_character" {
  command = plan
  variables {
    name = "a"
  }
  expect_failures = [var.name]
}

run "a_name_that_ends_with_a_hyphen" {
  command = plan
  variables {
    name = "prod-"
  }
  expect_failures = [var.name]
}

run "a_name_with_two_hyphens" {
  command = plan
  variables {
    name = "a--b"
  }
  expect_failures = [var.name]
}

run "a_name_that_aws_keeps" {
  command = plan
  variables {
    name = "aws-x"
  }
  expect_failures = [var.name]
}

run "a_name_that_parameters_may_not_have" {
  command = plan
  variables {
    name = "ssm-x"
  }
  expect_failures = [var.name]
}

run "a_name_that_groups_may_not_have" {
  command = plan
  variables {
    name = "sg-x"
  }
  expect_failures = [var.name]
}

run "a_name_too_long_for_the_bucket" {
  command = plan
  variables {
    name = "a123456789b123456789c1234567"
  }
  expect_failures = [var.name]
}

run "a_name_as_long_as_can_be" {
  command = plan
  variables {
    name = "a123456789b123456789c123456"
  }
}

run "a_repository_of_another_region" {
  command = plan
  variables {
    ecr = "123456789012.dkr.ecr.us-east-1.amazonaws.com/model"
  }
  expect_failures = [var.ecr]
}

run "a_dual_stack_repository_of_another_region" {
  command = plan
  variables {
    ecr = "123456789012.dkr-ecr.eu-west-1.on.aws/model"
  }
  expect_failures = [var.ecr]
}

run "a_repository_that_keeps_nothing_to_go_back_to" {
  command = plan
  variables {
    ecr_keep_images = 1
  }
  expect_failures = [var.ecr_keep_images]
}

run "two_repositories" {
  command = plan
  variables {
    ecr               = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/model"
    create_repository = true
  }
  expect_failures = [var.create_repository]
}

run "an_endpoint_of_another_vpc" {
  command = plan
  variables {
    vpc_id = "vpc-0123456789abcdef1"
  }
  expect_failures = [data.aws_vpc_endpoint.sqs[0]]
}

run "an_endpoint_with_two_groups" {
  command = plan
  override_data {
    target = data.aws_vpc_endpoint.sqs[0]
    values = {
      security_group_ids = ["sg-0123456789abcdef0", "sg-0123456789abcdef1"]
      vpc_id             = "vpc-0123456789abcdef0"
    }
  }
  expect_failures = [data.aws_vpc_endpoint.sqs[0]]
}

run "a_tag_that_cannot_move_and_has_to" {
  command = plan
  variables {
    container_tag = "latest"
  }
  expect_failures = [var.container_tag]
}

run "a_key_of_another_region" {
  command = plan
  variables {
    kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  }
  expect_failures = [var.kms_key_arn]
}

run "services_that_share_a_name" {
  command = plan
  variables {
    more_services = [{ name = "spot" }, { name = "spot" }]
  }
  expect_failures = [var.more_services]
}

run "what_fargate_has_not_after_instances_that_have" {
  command = plan
  variables {
    capacity_provider = "gpu"
    sidecars          = { server = { image = "public.ecr.aws/model/server:1", gpus = 1 } }
    more_services     = [{ name = "cpu", on_fargate = true }]
  }
  expect_failures = [var.more_services]
}

run "events_to_two_places" {
  command = plan
  variables {
    completion_events = { event_bus_arn = "arn:aws:events:eu-central-1:123456789012:event-bus/jobs", topic_arn = "arn:aws:sns:eu-central-1:123456789012:jobs" }
  }
  expect_failures = [var.completion_events]
}

run "states_that_wait_for_results_without_a_bucket" {
  command = plan
  variables {
    step_functions = {}
    payload_bucket = false
  }
  expect_failures = [var.step_functions]
}

run "a_queue_with_a_dot" {
  command = plan
  variables {
    queues = ["bulk.slow"]
  }
  expect_failures = [var.queues]
}

run "queues_too_long_for_a_policy" {
  command = plan
  variables {
    queues = [for n in range(9) : "${n}-${join("", [for _ in range(58) : "q"])}"]
  }
  expect_failures = [var.queues]
}
