mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws-us-gov" }
  }
  mock_data "aws_region" {
    defaults = { region = "us-gov-west-1" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws-us-gov:iam::123456789012:role/made-up" }
  }
  mock_resource "aws_sfn_state_machine" {
    defaults = { arn = "arn:aws-us-gov:states:us-gov-west-1:123456789012:stateMachine:jobs-task-tokens" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws-us-gov:logs:us-gov-west-1:123456789012:log-group:/aws/vendedlogs/states/jobs-task-tokens" }
  }
}

variables {
  name       = "jobs"
  stream_arn = "arn:aws-us-gov:dynamodb:us-gov-west-1:123456789012:table/jobs-records/stream/2026-01-01T00:00:00.000"
}

run "ends_and_heartbeats" {
  assert {
    condition = { for who, document in data.aws_iam_policy_document.assume : who => [for condition in document.statement[0].condition : one(condition.values) if condition.variable == "aws:SourceArn"] } == {
      pipe   = ["arn:aws-us-gov:pipes:us-gov-west-1:123456789012:pipe/${aws_pipes_pipe.this.name}"]
      states = ["arn:aws-us-gov:states:us-gov-west-1:123456789012:stateMachine:*"]
    }
    error_message = "Roles are for what is of this account."
  }
  assert {
    condition = [for filter in aws_pipes_pipe.this.source_parameters[0].filter_criteria[0].filter : jsondecode(filter.pattern)] == [
      { dynamodb = {
        NewImage = { queue = { S = [{ exists = true }] }, task_token = { S = [{ exists = true }] }, status = { S = ["success", "error", "cancelled"] } }
        OldImage = { status = { S = [{ "anything-but" = ["success", "error", "cancelled"] }] } }
      } },
      { dynamodb = { NewImage = { queue = { S = [{ exists = true }] }, task_token = { S = [{ exists = true }] }, status = { S = ["success", "error", "cancelled"] } } }, eventName = ["INSERT"] },
      { dynamodb = { NewImage = { queue = { S = [{ exists = true }] }, task_token = { S = [{ exists = true }] }, status = { S = ["in_progress"] } } } },
    ]
    error_message = "Jobs that have a token: their ends, each once, and that they run."
  }
  assert {
    condition     = aws_pipes_pipe.this.source_parameters[0].dynamodb_stream_parameters[0].batch_size == 1
    error_message = "The state machine reads one record."
  }
  assert {
    condition     = aws_pipes_pipe.this.target == aws_sfn_state_machine.this.arn && aws_pipes_pipe.this.target_parameters[0].step_function_state_machine_parameters[0].invocation_type == "REQUEST_RESPONSE"
    error_message = "An execution that failed is tried again."
  }
  assert {
    condition     = [for statement in data.aws_iam_policy_document.pipe.statement : statement.resources if statement.sid == "Start"] == [toset([aws_sfn_state_machine.this.arn])]
    error_message = "The pipe starts this state machine and no other."
  }
  assert {
    condition     = one([for statement in data.aws_iam_policy_document.states.statement : statement.resources if statement.sid == "Answer"]) == toset(["arn:aws-us-gov:states:us-gov-west-1:123456789012:stateMachine:*"])
    error_message = "Whichever waits, of this account and region."
  }
  assert {
    condition     = [for state in values(jsondecode(aws_sfn_state_machine.this.definition).States) : state.Resource if state.Type == "Task"] == [for verb in ["Failure", "Heartbeat", "Success"] : "arn:aws-us-gov:states:::aws-sdk:sfn:sendTask${verb}"]
    error_message = "Integrations are those of the partition."
  }
  assert {
    condition     = aws_sfn_state_machine.this.type == "EXPRESS" && !aws_sfn_state_machine.this.logging_configuration[0].include_execution_data
    error_message = "Results are in no log."
  }
}

run "without_heartbeats" {
  variables {
    heartbeats         = false
    state_machine_arns = ["arn:aws-us-gov:states:us-gov-west-1:123456789012:stateMachine:reports"]
    kms_key_arn        = "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  }
  assert {
    condition     = length(aws_pipes_pipe.this.source_parameters[0].filter_criteria[0].filter) == 2
    error_message = "Nothing is paid for while a job runs."
  }
  assert {
    condition     = one([for statement in data.aws_iam_policy_document.states.statement : statement.resources if statement.sid == "Answer"]) == toset(var.state_machine_arns)
    error_message = "These and no others."
  }
  assert {
    condition     = contains([for statement in data.aws_iam_policy_document.pipe.statement : statement.sid], "Key") && aws_cloudwatch_log_group.states.kms_key_id == var.kms_key_arn
    error_message = "The stream is encrypted as its table."
  }
}

run "what_is_no_state_machine" {
  command = plan
  variables {
    state_machine_arns = ["reports"]
  }
  expect_failures = [var.state_machine_arns]
}
