# The queue of jobs and its dead-letter queue.

locals {
  suffix = var.fifo ? ".fifo" : ""
  # 1 MiB, the most that there is; larger bodies go to the bucket. The same for
  # both, as each dead letter is copied as it is.
  max_message_size = 1048576
}

resource "aws_sqs_queue" "dead_letters" {
  # The dead-letter queue of a FIFO queue is FIFO (SQS Developer Guide).
  name                       = "${var.name}-dlq${local.suffix}"
  fifo_queue                 = var.fifo
  message_retention_seconds  = var.dlq_message_retention_seconds
  visibility_timeout_seconds = var.dlq_visibility_timeout_seconds
  max_message_size           = local.max_message_size
  sqs_managed_sse_enabled    = true
  tags                       = var.tags
}

resource "aws_sqs_queue" "jobs" {
  name                        = "${var.name}${local.suffix}"
  fifo_queue                  = var.fifo
  content_based_deduplication = var.fifo ? var.content_based_deduplication : null
  deduplication_scope         = var.fifo ? var.deduplication_scope : null
  # perMessageGroupId goes with messageGroup only.
  fifo_throughput_limit = var.fifo ? (
    var.deduplication_scope == "messageGroup" ? "perMessageGroupId" : "perQueue"
  ) : null
  visibility_timeout_seconds = var.visibility_timeout_seconds
  message_retention_seconds  = var.message_retention_seconds
  # A receive that says nothing else waits, rather than being paid for in vain.
  receive_wait_time_seconds = 20
  max_message_size          = local.max_message_size
  sqs_managed_sse_enabled   = true
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = var.max_receive_count
  })
  tags = var.tags
}

# Only this queue may use the dead-letter queue.
resource "aws_sqs_queue_redrive_allow_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.jobs.arn]
  })
}
