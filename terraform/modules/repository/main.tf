# Where images are, which are looked through for known faults, and do not pile up.

resource "aws_ecr_repository" "images" {
  name                 = var.name
  force_delete         = var.force_delete
  image_tag_mutability = var.immutable_tags ? "IMMUTABLE" : "MUTABLE"
  tags                 = var.tags

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = var.kms_key_arn == null ? "AES256" : "KMS"
    kms_key         = var.kms_key_arn
  }
}

resource "aws_ecr_lifecycle_policy" "images" {
  repository = aws_ecr_repository.images.name
  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "Untagged images go after two weeks"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 14 }
        action       = { type = "expire" }
      },
      # Under tags that never move, no image is ever untagged.
      {
        rulePriority = 2
        description  = "Of those with a tag, the last ${var.keep_images} are kept"
        selection    = { tagStatus = "tagged", tagPatternList = ["*"], countType = "imageCountMoreThan", countNumber = var.keep_images }
        action       = { type = "expire" }
      },
    ]
  })
}
