# For programs that look the names up rather than being told.

resource "aws_ssm_parameter" "this" {
  for_each = {
    queue_name = module.queue.name
    table_name = module.table.name
  }

  name        = "/${var.name}/${each.key}"
  description = "Of the pipeline ${var.name}"
  type        = "String"
  value       = each.value
  tags        = var.tags
}
