mock_provider "aws" {
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
