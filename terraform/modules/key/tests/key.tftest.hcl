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
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
}

variables {
  name        = "jobs"
  description = "All of jobs"
}

run "defaults" {
  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_kms_alias.this.name == "alias/jobs"
    error_message = "The key is renewed each year."
  }
  assert {
    condition     = [for statement in data.aws_iam_policy_document.this.statement : statement.sid] == ["Account", "Logs"]
    error_message = "No service that was not named."
  }
  assert {
    condition     = one(data.aws_iam_policy_document.this.statement[1].condition).values == tolist(["arn:aws:logs:eu-central-1:123456789012:log-group:*"])
    error_message = "Logs of this account only."
  }
}

run "a_topic_that_is_told_of_alarms" {
  variables {
    services = ["cloudwatch.amazonaws.com"]
  }
  assert {
    condition     = one(data.aws_iam_policy_document.this.statement[2].principals).identifiers == toset(["cloudwatch.amazonaws.com"])
    error_message = "CloudWatch publishes to it."
  }
}

run "what_cannot_be" {
  command = plan
  variables {
    name                 = "aws/jobs"
    services             = ["sns"]
    deletion_window_days = 5
  }
  expect_failures = [var.name, var.services, var.deletion_window_days]
}
