variable "name" {
  description = "What the names of the resources begin with."
  type        = string
  nullable    = false
}

variable "cluster_name" {
  description = "Name of the ECS cluster."
  type        = string
  nullable    = false
}

variable "service_name" {
  description = "Name of the ECS service."
  type        = string
  nullable    = false
}

variable "queue_name" {
  description = "Name of the queue that the service works off."
  type        = string
  nullable    = false
}

variable "min_capacity" {
  description = "The fewest tasks. With 0, nothing is paid for while nothing is to be done, and the first job waits for a task to start."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.min_capacity >= 0 && floor(var.min_capacity) == var.min_capacity
    error_message = "The minimum capacity is a whole number from 0."
  }
}

variable "max_capacity" {
  description = "The most tasks."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.max_capacity >= 1 && var.max_capacity >= var.min_capacity && floor(var.max_capacity) == var.max_capacity
    error_message = "The maximum capacity is a whole number, at least 1 and at least the minimum capacity."
  }
}

variable "scale_in_window_seconds" {
  description = "For how many seconds tasks that are not needed are kept: whole minutes, up to an hour."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.scale_in_window_seconds >= 60 && var.scale_in_window_seconds <= 3600 && var.scale_in_window_seconds % 60 == 0
    error_message = "Alarms count minutes: with scaler = \"alarms\", the scale-in window is 60 to 3600 seconds, a multiple of 60."
  }
}

variable "tags" {
  description = "Tags of all resources."
  type        = map(string)
  default     = {}
  nullable    = false
}
