variable "policy_name" {
  description = "Name of the policy of CloudWatch Logs."
  type        = string
  nullable    = false
}
