mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
}

variables {
  name = "jobs"
  queues = [
    { arn = "arn:aws:sqs:eu-central-1:123456789012:jobs.fifo", dlq_arn = "arn:aws:sqs:eu-central-1:123456789012:jobs-dlq.fifo" },
  ]
  table  = { arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/jobs-records" }
  bucket = { arn = "arn:aws:s3:::jobs-payloads-1" }
}

run "one_policy_for_each_thing_that_is_done" {
  assert {
    condition     = toset([for policy in aws_iam_policy.this : policy.name]) == toset(["jobs-submit", "jobs-read", "jobs-cancel", "jobs-operate"])
    error_message = "Programs get what they do, and no more."
  }
}

run "who_submits_writes_no_record_that_is_there" {
  assert {
    condition = one([
      for statement in data.aws_iam_policy_document.submit.statement : one(statement.condition).values if contains(statement.actions, "dynamodb:UpdateItem")
    ]) == tolist(["key#*", "token#*"])
    error_message = "Only its own idempotency keys."
  }
  assert {
    condition = one([
      for statement in data.aws_iam_policy_document.submit.statement :
      one([for condition in statement.condition : toset(condition.values) if condition.variable == "dynamodb:Attributes" && condition.test == "ForAllValues:StringEquals"])
      if statement.sid == "NewRecords"
    ]) == toset(local.submitted_attributes)
    error_message = "A record that it makes has the attributes of a submit only."
  }
  assert {
    condition = {
      for condition in one([for statement in data.aws_iam_policy_document.submit.statement : statement.condition if statement.sid == "Bodies"]) :
      condition.variable => toset(condition.values)
      } == {
      "dynamodb:LeadingKeys" = toset(["body#*"])
      "dynamodb:Attributes"  = toset(["body", "expiration", "message_id"])
    }
    error_message = "With keep_bodies, a body is an item of its own, and nothing else has its attributes."
  }
  assert {
    condition     = toset([for statement in data.aws_iam_policy_document.submit.statement : statement.sid if contains(statement.actions, "dynamodb:PartiQLInsert")]) == toset(["NewRecords", "Bodies"])
    error_message = "It inserts nothing else."
  }
  assert {
    condition     = length(setintersection(local.submitted_attributes, ["result", "result_at", "error", "error_kind", "finished_at", "expires_at", "expiration", "claim"])) == 0
    error_message = "And no result or end is among them."
  }
  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.submit.statement : contains(flatten([for condition in statement.condition : condition.values]), "status") if contains(statement.actions, "dynamodb:GetItem")
    ])
    error_message = "Whether a job is over, and nothing else of it."
  }
  assert {
    condition     = length(setintersection(flatten(data.aws_iam_policy_document.submit.statement[*].actions), ["s3:GetObject", "s3:DeleteObject", "dynamodb:BatchGetItem"])) == 0
    error_message = "It reads no results, and deletes nothing."
  }
}

run "who_reads_writes_nothing" {
  assert {
    condition     = length(setintersection(flatten(concat(data.aws_iam_policy_document.read.statement[*].actions, data.aws_iam_policy_document.read_records.statement[*].actions)), ["dynamodb:UpdateItem", "dynamodb:PutItem", "dynamodb:PartiQLInsert", "sqs:SendMessage", "s3:PutObject"])) == 0
    error_message = "Reading is all."
  }
}

run "who_cancels_makes_up_no_result" {
  assert {
    condition = length(setintersection(local.cancelled_attributes, ["result", "result_at", "body", "body_at", "proof", "claim"])) == 0 && one([
      for statement in data.aws_iam_policy_document.cancel.statement : one(statement.condition).variable if contains(statement.actions, "dynamodb:UpdateItem")
    ]) == "dynamodb:Attributes"
    error_message = "A cancellation writes these attributes only."
  }
}

run "what_webhooks_are_told_is_all_that_is_put" {
  assert {
    condition = [
      for statement in concat(data.aws_iam_policy_document.cancel.statement, data.aws_iam_policy_document.write.statement, data.aws_iam_policy_document.tell.statement) :
      [one(statement.condition).variable, tolist(one(statement.condition).values)] if contains(statement.actions, "dynamodb:PutItem")
    ] == [["dynamodb:LeadingKeys", tolist(["webhook#*"])]]
    error_message = "No record is replaced."
  }
}

run "a_key_of_ones_own" {
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  }
  assert {
    condition = alltrue([
      for document in [data.aws_iam_policy_document.submit, data.aws_iam_policy_document.read, data.aws_iam_policy_document.cancel, data.aws_iam_policy_document.write] :
      contains(flatten([for statement in document.statement : statement.resources]), var.kms_key_arn)
    ])
    error_message = "Each may use it."
  }
  assert {
    condition     = one([for statement in data.aws_iam_policy_document.read.statement : statement.actions if statement.sid == "Key"]) == toset(["kms:Decrypt", "kms:DescribeKey"])
    error_message = "Who reads does not encrypt."
  }
}

run "what_cannot_be" {
  command = plan
  variables {
    queues      = []
    kms_key_arn = "alias/jobs"
    iam_path    = "jobs"
  }
  expect_failures = [var.queues, var.kms_key_arn, var.iam_path]
}
