# The records of the jobs: status, result, and when they expire.

resource "aws_dynamodb_table" "records" {
  name         = var.name
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "message_id"

  attribute {
    name = "message_id"
    type = "S"
  }

  attribute {
    name = "dead_of"
    type = "S"
  }

  attribute {
    name = "submitted_at"
    type = "N"
  }

  attribute {
    name = "webhook_of"
    type = "S"
  }

  attribute {
    name = "due_at"
    type = "N"
  }

  # Only dead letters have the first of its keys, so no other record is in it,
  # and none costs more for it.
  global_secondary_index {
    name            = "dead_letters"
    hash_key        = "dead_of"
    range_key       = "submitted_at"
    projection_type = "KEYS_ONLY"
  }

  # What is to be told to webhooks, and nothing else, in the order in which it is due.
  global_secondary_index {
    name               = "webhooks"
    hash_key           = "webhook_of"
    range_key          = "due_at"
    projection_type    = "INCLUDE"
    non_key_attributes = ["created_at", "host", "job", "queue"]
  }

  # For whoever is told of what changes; it costs nothing by itself.
  stream_enabled   = var.stream
  stream_view_type = var.stream ? "NEW_AND_OLD_IMAGES" : null

  ttl {
    attribute_name = "expiration"
    enabled        = true
  }

  # Without a key, AWS encrypts with one that it owns.
  dynamic "server_side_encryption" {
    for_each = var.kms_key_arn[*]

    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value
    }
  }

  point_in_time_recovery {
    enabled = var.point_in_time_recovery
  }

  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags
}
