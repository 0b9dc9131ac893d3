mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:jobs" }
  }
}

variables {
  name = "jobs"
}

run "fifo_with_high_throughput" {
  assert {
    condition     = aws_sqs_queue.jobs.name == "jobs.fifo" && aws_sqs_queue.dead_letters.name == "jobs-dlq.fifo"
    error_message = "The dead-letter queue of a FIFO queue is FIFO."
  }
  assert {
    condition     = aws_sqs_queue.jobs.deduplication_scope == "messageGroup" && aws_sqs_queue.jobs.fifo_throughput_limit == "perMessageGroupId"
    error_message = "These two make high throughput."
  }
  assert {
    condition     = aws_sqs_queue.jobs.sqs_managed_sse_enabled && aws_sqs_queue.dead_letters.sqs_managed_sse_enabled
    error_message = "Both are encrypted."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue.jobs.redrive_policy).maxReceiveCount == 10
    error_message = "The net under the consumers."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue_redrive_allow_policy.dead_letters.redrive_allow_policy).redrivePermission == "byQueue"
    error_message = "No other queue may use the dead-letter queue."
  }
}

run "what_the_one_takes_the_other_takes" {
  assert {
    condition     = aws_sqs_queue.jobs.max_message_size == 1048576 && aws_sqs_queue.dead_letters.max_message_size == 1048576
    error_message = "A dead letter is as large as its job, which may have 1 MiB."
  }
}

run "a_scope_of_the_queue_limits_the_queue" {
  variables {
    deduplication_scope = "queue"
  }
  assert {
    condition     = aws_sqs_queue.jobs.fifo_throughput_limit == "perQueue"
    error_message = "SQS takes perMessageGroupId with messageGroup only."
  }
}

run "standard" {
  variables {
    fifo = false
  }
  assert {
    condition     = aws_sqs_queue.jobs.name == "jobs" && !aws_sqs_queue.jobs.fifo_queue
    error_message = "A standard queue has no suffix."
  }
}

run "refused_name" {
  command = plan
  variables {
    name = "jobs.fifo"
  }
  expect_failures = [var.name]
}

run "refused_numbers" {
  command = plan
  variables {
    visibility_timeout_seconds    = 50000
    max_receive_count             = 1
    message_retention_seconds     = 3600
    dlq_message_retention_seconds = 1300000
    deduplication_scope           = "message"
  }
  expect_failures = [
    var.visibility_timeout_seconds, var.max_receive_count, var.message_retention_seconds,
    var.dlq_message_retention_seconds, var.deduplication_scope,
  ]
}

run "nothing_but_tls_and_this_account" {
  assert {
    condition = alltrue([for document in data.aws_iam_policy_document.queue : [
      for statement in document.statement : "${statement.effect} ${statement.sid}"
    ] == ["Deny TlsOnly", "Deny NoOtherAccounts"]])
    error_message = "Whatever policies of roles say."
  }
  assert {
    condition     = toset(keys(aws_sqs_queue_policy.this)) == toset(["jobs", "dead_letters"])
    error_message = "Both queues have a policy."
  }
}

run "a_key_of_ones_own" {
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  }
  assert {
    condition     = alltrue([for queue in [aws_sqs_queue.jobs, aws_sqs_queue.dead_letters] : queue.kms_master_key_id == var.kms_key_arn && queue.kms_data_key_reuse_period_seconds == 3600])
    error_message = "Both are encrypted by it, with few calls of KMS."
  }
}

run "others_who_send" {
  variables {
    senders = {
      nightly-jobs = { service = "events.amazonaws.com", source_arn = "arn:aws:events:eu-central-1:123456789012:rule/nightly" }
      web          = { principal_arns = ["arn:aws:iam::210987654321:role/web"] }
    }
  }
  assert {
    condition     = [for statement in data.aws_iam_policy_document.queue["jobs"].statement : statement.sid] == ["TlsOnly", "NoOtherAccounts", "SenderNightlyJobs", "SenderWeb"]
    error_message = "Each has a statement of its own."
  }
  assert {
    condition = { for condition in data.aws_iam_policy_document.queue["jobs"].statement[2].condition : condition.variable => one(condition.values) } == {
      "aws:SourceArn"     = "arn:aws:events:eu-central-1:123456789012:rule/nightly"
      "aws:SourceAccount" = "123456789012"
    }
    error_message = "A service sends for this source only."
  }
  assert {
    condition     = contains(flatten(data.aws_iam_policy_document.queue["jobs"].statement[1].condition[*].values), "210987654321")
    error_message = "The other account is let in."
  }
  assert {
    condition     = length(data.aws_iam_policy_document.queue["dead_letters"].statement) == 2
    error_message = "But not to the dead letters."
  }
}

run "others_who_send_to_named_queues" {
  variables {
    named = ["interactive", "bulk"]
    senders = {
      nightly = { service = "events.amazonaws.com", source_arn = "arn:aws:events:eu-central-1:123456789012:rule/nightly", queues = ["bulk"] }
      web     = { principal_arns = ["arn:aws:iam::210987654321:role/web"], queues = ["default", "interactive"] }
    }
  }
  assert {
    condition = { for queue, document in data.aws_iam_policy_document.queue : queue => [for statement in document.statement : statement.sid if startswith(statement.sid, "Sender")] } == {
      jobs = ["SenderWeb"], dead_letters = [], "named interactive" = ["SenderWeb"], "named bulk" = ["SenderNightly"]
    }
    error_message = "Each to the queues that it names."
  }
  assert {
    condition = { for queue, document in data.aws_iam_policy_document.queue : queue => contains(flatten(document.statement[1].condition[*].values), "210987654321") } == {
      jobs = true, dead_letters = false, "named interactive" = true, "named bulk" = false
    }
    error_message = "The other account is let in there, and nowhere else."
  }
}

run "senders_to_a_queue_that_is_not_there" {
  command = plan
  variables {
    named   = ["bulk"]
    senders = { web = { principal_arns = ["arn:aws:iam::210987654321:role/web"], queues = ["blk"] } }
  }
  expect_failures = [var.senders]
}

run "senders_to_no_queue" {
  command = plan
  variables {
    senders = { web = { principal_arns = ["arn:aws:iam::210987654321:role/web"], queues = [] } }
  }
  expect_failures = [var.senders]
}

run "senders_that_nobody_is" {
  command = plan
  variables {
    senders     = { nobody = {} }
    kms_key_arn = "alias/jobs"
  }
  expect_failures = [var.senders, var.kms_key_arn]
}

run "s3_sends_to_no_fifo_queue" {
  command = plan
  variables {
    senders = { uploads = { service = "s3.amazonaws.com", source_arn = "arn:aws:s3:::uploads" } }
  }
  expect_failures = [var.senders]
}

run "named_queues" {
  variables {
    named = ["interactive", "bulk"]
  }
  assert {
    condition     = toset([for queue in output.named : queue.name]) == toset(["jobs--interactive.fifo", "jobs--bulk.fifo"])
    error_message = "As the program calls them."
  }
  assert {
    condition     = length(jsondecode(aws_sqs_queue_redrive_allow_policy.dead_letters.redrive_allow_policy).sourceQueueArns) == 3 && jsondecode(aws_sqs_queue.named["bulk"].redrive_policy).maxReceiveCount == 10
    error_message = "They share the dead-letter queue."
  }
  assert {
    condition     = length(aws_sqs_queue_policy.this) == 4
    error_message = "Each is closed to others."
  }
}

run "named_queues_that_cannot_be" {
  command = plan
  variables {
    named = ["default", "a.b"]
  }
  expect_failures = [var.named]
}

run "a_store_that_would_have_those_of_another" {
  command = plan
  variables {
    name  = "jobs--more"
    named = ["bulk"]
  }
  expect_failures = [var.named]
}
