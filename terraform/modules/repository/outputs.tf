output "url" {
  description = "Where to push images, without a tag."
  value       = aws_ecr_repository.images.repository_url
}

output "arn" {
  description = "ARN of the repository."
  value       = aws_ecr_repository.images.arn
}
