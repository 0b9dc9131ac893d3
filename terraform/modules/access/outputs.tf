output "policy_arns" {
  description = "The policies to attach to roles of yours, by what they allow: submit, read, cancel, operate."
  value       = { for name, policy in aws_iam_policy.this : name => policy.arn }
}

output "consume_policy" {
  description = "The policy of tasks, as JSON: receive and settle jobs, read and write records and payloads."
  value       = data.aws_iam_policy_document.consume.json
}
