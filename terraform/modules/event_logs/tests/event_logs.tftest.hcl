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
  policy_name = "jobs-events"
}

run "reports_of_this_account" {
  assert {
    condition     = one(data.aws_iam_policy_document.events.statement[0].resources) == "arn:aws:logs:eu-central-1:123456789012:log-group:/aws/events/*:*"
    error_message = "Groups of this prefix."
  }
  assert {
    condition     = { for condition in data.aws_iam_policy_document.events.statement[0].condition : condition.variable => one(condition.values) } == { "aws:SourceAccount" = "123456789012", "aws:SourceArn" = "arn:aws:events:eu-central-1:123456789012:rule/*" }
    error_message = "Not for a rule of another account."
  }
}
