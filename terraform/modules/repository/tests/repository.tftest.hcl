mock_provider "aws" {}

variables {
  name = "team/model"
}

run "defaults" {
  assert {
    condition     = aws_ecr_repository.images.image_scanning_configuration[0].scan_on_push
    error_message = "What is pushed is looked through."
  }
  assert {
    condition = [for rule in jsondecode(aws_ecr_lifecycle_policy.images.policy).rules : [
      rule.selection.tagStatus, rule.selection.countNumber, rule.action.type,
    ]] == [["untagged", 14, "expire"], ["tagged", 30, "expire"]]
    error_message = "Images do not pile up, under tags that never move either."
  }
  assert {
    condition     = !aws_ecr_repository.images.force_delete
    error_message = "Images are not deleted along the way."
  }
  assert {
    condition     = aws_ecr_repository.images.image_tag_mutability == "IMMUTABLE"
    error_message = "A version stays what it was."
  }
}

run "a_tag_that_moves" {
  variables {
    immutable_tags = false
    keep_images    = 100
    force_delete   = true
  }
  assert {
    condition     = aws_ecr_repository.images.image_tag_mutability == "MUTABLE" && aws_ecr_repository.images.force_delete
    error_message = "As was asked for."
  }
  assert {
    condition     = jsondecode(aws_ecr_lifecycle_policy.images.policy).rules[1].selection.countNumber == 100
    error_message = "As many as was asked for."
  }
}

run "refused_count" {
  command = plan
  variables {
    keep_images = 1
  }
  expect_failures = [var.keep_images]
}

run "refused_name" {
  command = plan
  variables {
    name = "Team/Model"
  }
  expect_failures = [var.name]
}

run "a_key_of_ones_own" {
  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  }
  assert {
    condition     = aws_ecr_repository.images.encryption_configuration[0].encryption_type == "KMS" && aws_ecr_repository.images.encryption_configuration[0].kms_key == var.kms_key_arn
    error_message = "Images are encrypted by it."
  }
}
