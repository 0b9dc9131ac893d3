mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
}

variables {
  name_prefix = "jobs-payloads"
}

run "private" {
  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.payloads.block_public_acls,
      aws_s3_bucket_public_access_block.payloads.block_public_policy,
      aws_s3_bucket_public_access_block.payloads.ignore_public_acls,
      aws_s3_bucket_public_access_block.payloads.restrict_public_buckets,
    ])
    error_message = "Nobody from outside gets at it."
  }
  assert {
    condition = one([for statement in data.aws_iam_policy_document.bucket.statement :
      "${one(statement.condition).variable} ${one(one(statement.condition).values)}" if statement.sid == "TlsOnly"
    ]) == "aws:SecureTransport false"
    error_message = "It is spoken to by TLS only."
  }
  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.payloads.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "What it holds is encrypted."
  }
  assert {
    condition     = aws_s3_bucket.payloads.bucket_prefix == "jobs-payloads-" && !aws_s3_bucket.payloads.force_destroy
    error_message = "A name of its own, and a destroy that stops at payloads."
  }
}

run "forgets" {
  assert {
    condition = {
      for rule in aws_s3_bucket_lifecycle_configuration.payloads.rule :
      rule.filter[0].prefix => rule.expiration[0].days if length(rule.expiration) > 0
    } == { for days in [2, 8, 16, 31, 45, 60, 90, 180, 400, 800] : "haulage/${days}d/" => days }
    error_message = "The folders that the program writes to, each with its time."
  }
  assert {
    condition = [
      for rule in aws_s3_bucket_lifecycle_configuration.payloads.rule :
      rule.abort_incomplete_multipart_upload[0].days_after_initiation if length(rule.abort_incomplete_multipart_upload) > 0
    ] == [2]
    error_message = "Parts of uploads that came to nothing are paid for, too."
  }
}

run "may_be_destroyed_with_what_is_in_it" {
  variables {
    force_destroy = true
  }
  assert {
    condition     = aws_s3_bucket.payloads.force_destroy
    error_message = "Where it was asked for."
  }
}

run "refused_prefix" {
  command = plan
  variables {
    name_prefix = "Jobs"
  }
  expect_failures = [var.name_prefix]
}

run "a_key_of_ones_own" {
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  }
  assert {
    condition = [for rule in aws_s3_bucket_server_side_encryption_configuration.payloads.rule : [
      rule.bucket_key_enabled, rule.apply_server_side_encryption_by_default[0].sse_algorithm, rule.apply_server_side_encryption_by_default[0].kms_master_key_id,
    ]] == [[true, "aws:kms", var.kms_key_arn]]
    error_message = "Objects are encrypted by it, with few calls of KMS."
  }
}

run "nobody_from_another_account" {
  assert {
    condition     = [for statement in data.aws_iam_policy_document.bucket.statement : "${statement.effect} ${statement.sid}"] == ["Deny TlsOnly", "Deny NoOtherAccounts"]
    error_message = "Whatever policies of roles say."
  }
}
