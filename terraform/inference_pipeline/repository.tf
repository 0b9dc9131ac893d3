# The repository of the image, where none is given.

resource "aws_ecr_repository" "this" {
  count = local.create_repository ? 1 : 0

  name                 = var.name
  force_delete         = var.ecr_force_delete
  image_tag_mutability = var.container_tag == "latest" ? "MUTABLE" : "IMMUTABLE"
  tags                 = var.tags

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "AES256"
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  count = local.create_repository ? 1 : 0

  repository = aws_ecr_repository.this[0].name
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
        description  = "Of those with a tag, the last ${var.ecr_keep_images} are kept"
        selection    = { tagStatus = "tagged", tagPatternList = ["*"], countType = "imageCountMoreThan", countNumber = var.ecr_keep_images }
        action       = { type = "expire" }
      },
    ]
  })
}
