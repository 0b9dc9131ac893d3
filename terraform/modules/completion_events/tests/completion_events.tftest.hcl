mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/made-up" }
  }
}

variables {
  name          = "jobs"
  stream_arn    = "arn:aws:dynamodb:eu-central-1:123456789012:table/jobs-records/stream/2026-01-01T00:00:00.000"
  event_bus_arn = "arn:aws:events:eu-central-1:123456789012:event-bus/default"
}

run "to_eventbridge" {
  assert {
    condition = { for condition in data.aws_iam_policy_document.assume.statement[0].condition : condition.variable => one(condition.values) } == {
      "aws:SourceAccount" = "123456789012"
      "aws:SourceArn"     = "arn:aws:pipes:eu-central-1:123456789012:pipe/${aws_pipes_pipe.this.name}"
    }
    error_message = "Its role is for this pipe alone."
  }
  assert {
    condition = [for filter in aws_pipes_pipe.this.source_parameters[0].filter_criteria[0].filter : jsondecode(filter.pattern)] == [
      { dynamodb = {
        NewImage = { queue = { S = [{ exists = true }] }, status = { S = ["success", "error", "cancelled"] } }
        OldImage = { status = { S = [{ "anything-but" = ["success", "error", "cancelled"] }] } }
      } },
      { dynamodb = { NewImage = { queue = { S = [{ exists = true }] }, status = { S = ["success", "error", "cancelled"] } } }, eventName = ["INSERT"] },
    ]
    error_message = "Ends of jobs, each once."
  }
  assert {
    condition     = aws_pipes_pipe.this.target_parameters[0].input_template == "{\"error_kind\": \"<$.dynamodb.NewImage.error_kind.S>\", \"job_id\": \"<$.dynamodb.NewImage.message_id.S>\", \"queue\": \"<$.dynamodb.NewImage.queue.S>\", \"request_id\": \"<$.dynamodb.NewImage.request_id.S>\", \"status\": \"<$.dynamodb.NewImage.status.S>\", \"finished_at_us\": <$.dynamodb.NewImage.finished_at.N>}"
    error_message = "Text in quotes: ${aws_pipes_pipe.this.target_parameters[0].input_template}"
  }
  assert {
    condition     = aws_pipes_pipe.this.target == var.event_bus_arn && aws_pipes_pipe.this.target_parameters[0].eventbridge_event_bus_parameters[0].detail_type == "Job ended"
    error_message = "Rules can match them."
  }
}

run "to_sns" {
  variables {
    event_bus_arn = null
    topic_arn     = "arn:aws:sns:eu-central-1:123456789012:jobs"
  }
  assert {
    condition     = aws_pipes_pipe.this.target == var.topic_arn && length(aws_pipes_pipe.this.target_parameters[0].eventbridge_event_bus_parameters) == 0
    error_message = "The detail is the message."
  }
  assert {
    condition     = [for statement in data.aws_iam_policy_document.pipe.statement : statement.actions if statement.sid == "Tell"] == [toset(["sns:Publish"])]
    error_message = "It may publish to the topic, and nothing else."
  }
}

run "to_both" {
  command = plan
  variables {
    topic_arn = "arn:aws:sns:eu-central-1:123456789012:jobs"
  }
  expect_failures = [var.event_bus_arn]
}

run "to_a_fifo_topic" {
  command = plan
  variables {
    event_bus_arn = null
    topic_arn     = "arn:aws:sns:eu-central-1:123456789012:jobs.fifo"
  }
  expect_failures = [var.topic_arn]
}
