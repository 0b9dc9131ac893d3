mock_provider "aws" {}

variables {
  name = "jobs-records"
}

run "what_the_program_expects" {
  assert {
    condition     = aws_dynamodb_table.records.hash_key == "message_id" && sort([for key in aws_dynamodb_table.records.attribute : "${key.name} ${key.type}"]) == tolist(["dead_of S", "due_at N", "message_id S", "submitted_at N", "webhook_of S"])
    error_message = "A record is found by the id of its job."
  }
  assert {
    condition     = toset([for index in aws_dynamodb_table.records.global_secondary_index : "${index.name} ${index.hash_key} ${index.range_key} ${index.projection_type}"]) == toset(["dead_letters dead_of submitted_at KEYS_ONLY", "webhooks webhook_of due_at INCLUDE"])
    error_message = "Dead letters, and what is to be told to webhooks, are found without a look at all other records."
  }
  assert {
    condition     = aws_dynamodb_table.records.ttl[0].enabled && aws_dynamodb_table.records.ttl[0].attribute_name == "expiration"
    error_message = "Records go once their time is over."
  }
  assert {
    condition     = aws_dynamodb_table.records.billing_mode == "PAY_PER_REQUEST"
    error_message = "An idle table costs nothing."
  }
  assert {
    condition     = aws_dynamodb_table.records.point_in_time_recovery[0].enabled && aws_dynamodb_table.records.deletion_protection_enabled
    error_message = "It can be restored, and is not deleted along the way."
  }
  assert {
    condition     = length(aws_dynamodb_table.records.server_side_encryption) == 0
    error_message = "AWS encrypts it with a key that it owns."
  }
}

run "with_a_stream" {
  variables {
    stream = true
  }
  assert {
    condition     = aws_dynamodb_table.records.stream_enabled && aws_dynamodb_table.records.stream_view_type == "NEW_AND_OLD_IMAGES"
    error_message = "An end is told from what is written after it by the record before."
  }
}

run "for_a_try" {
  variables {
    point_in_time_recovery = false
    deletion_protection    = false
  }
  assert {
    condition     = !aws_dynamodb_table.records.point_in_time_recovery[0].enabled && !aws_dynamodb_table.records.deletion_protection_enabled
    error_message = "A destroy takes it."
  }
}

run "a_key_of_ones_own" {
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  }
  assert {
    condition     = aws_dynamodb_table.records.server_side_encryption[0].enabled && aws_dynamodb_table.records.server_side_encryption[0].kms_key_arn == var.kms_key_arn
    error_message = "It is encrypted by that."
  }
}

run "refused_name" {
  command = plan
  variables {
    name = "jobs records"
  }
  expect_failures = [var.name]
}
