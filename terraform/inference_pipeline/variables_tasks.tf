# The tasks.

variable "ecr" {
  description = "URL of the ECR repository with the image, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com/model, or in subnets with IPv6 only 123456789012.dkr-ecr.eu-central-1.on.aws/model; in the region of the pipeline; null makes one of the pipeline's name."
  type        = string
  default     = null

  validation {
    condition     = var.ecr == null || can(regex("^[0-9]{12}(\\.dkr\\.ecr\\.[a-z0-9-]+\\.amazonaws\\.com(\\.cn)?|\\.dkr-ecr\\.[a-z0-9-]+\\.on\\.aws)/[a-z0-9._/-]+$", var.ecr))
    error_message = "Give the URL of a repository without a tag, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com/model."
  }

  validation {
    condition     = var.ecr == null || try(regex("[.-]ecr\\.([a-z0-9-]+)\\.", var.ecr)[0] == data.aws_region.current.region, true)
    error_message = "The repository is not in ${data.aws_region.current.region}, and tasks reach no ECR but that of their region: push the image there, or replicate the repository."
  }
}

variable "create_repository" {
  description = "Whether to make a repository. Null: where ecr is null. Say false if ecr is the URL of one that the same apply makes, as it cannot be known in time whether that is null."
  type        = bool
  default     = null

  validation {
    condition     = var.create_repository == null || try(var.create_repository == (var.ecr == null), true)
    error_message = "Either create_repository is true, or ecr is the URL of a repository."
  }
}

variable "ecr_force_delete" {
  description = "Whether a destroy deletes the repository with the images in it."
  type        = bool
  default     = false
  nullable    = false
}

variable "ecr_keep_images" {
  description = "How many images with a tag the repository keeps; the oldest go, also where a task still runs on one. Let it be more than you push between two deployments."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.ecr_keep_images >= 2 && floor(var.ecr_keep_images) == var.ecr_keep_images
    error_message = "Keep 2 images or more, a whole number: the one that runs, and the one to go back to."
  }
}

variable "container_tag" {
  description = "Tag of the image, such as v1. In a repository that the pipeline makes, a tag never moves, so that a rollback finds what it goes back to."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.container_tag))
    error_message = "A tag has 1 to 128 letters, digits, underscores, dots and hyphens, and begins with none of the last two; such as v1."
  }

  validation {
    condition     = var.container_tag != "latest" || var.ecr_mutable_tags || try(!coalesce(var.create_repository, var.ecr == null), true)
    error_message = "In the pipeline's repository a tag never moves, so latest could be pushed once: give a tag such as v1, or set ecr_mutable_tags to true."
  }
}

variable "ecr_mutable_tags" {
  description = "Whether a tag of the pipeline's repository may move to another image. A service stays with the image that the tag meant when it was deployed."
  type        = bool
  default     = false
  nullable    = false
}

variable "container_command" {
  description = "Command of the container, in place of the image's."
  type        = list(string)
  default     = null
}

variable "container_environment" {
  description = "More environment variables of the container."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "sidecars" {
  description = "More containers of each task, by their names, such as a model server beside `haulage worker --http`. They share the worker's loopback address, its role, and the cpu and memory of the task. gpus are the server's then, and not the worker's. wait_for: what the worker's start waits for, START, HEALTHY (with a health_check), or SUCCESS (one that ends, such as a download; essential = false). mounts: paths of volumes, by their names. An image of ECR may be pulled, of whichever repository of this region."
  type = map(object({
    image       = string
    command     = optional(list(string))
    entry_point = optional(list(string))
    environment = optional(map(string), {})
    secrets     = optional(map(string), {})
    cpu         = optional(number)
    memory      = optional(number)
    gpus        = optional(number, 0)
    essential   = optional(bool, true)
    wait_for    = optional(string, "START")
    mounts      = optional(map(string), {})
    health_check = optional(object({
      command      = list(string)
      start_period = optional(number, 120)
    }))
  }))
  default  = {}
  nullable = false
}

variable "container_secrets" {
  description = "Environment variables of the worker from secrets: the ARN of a secret of Secrets Manager, with :KEY:: at its end for one key of it, or of a parameter of Parameter Store. They are read when a task starts. Tasks in a VPC without a way out need the endpoint secretsmanager, or ssm."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "container_secrets_kms_key_arns" {
  description = "ARNs of the KMS keys of your own by which these secrets are encrypted."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "volumes" {
  description = "What is mounted into the worker at path, by a name: a file system of EFS, such as a cache of models; a host_path on instances; or neither, for a folder that the containers of a task share, such as /tmp of a worker whose own file system is read-only. efs.security_group_id is that of the file system's mount targets; a rule lets the tasks in there."
  type = map(object({
    path      = string
    read_only = optional(bool, false)
    host_path = optional(string)
    efs = optional(object({
      file_system_arn   = string
      access_point_arn  = optional(string)
      root_directory    = optional(string, "/")
      security_group_id = optional(string)
    }))
  }))
  default  = {}
  nullable = false
}

variable "container" {
  description = "Who the worker runs as, and within what. user: such as 1000:1000; read_only: its own file system; add, drop: Linux capabilities; ulimits: such as { nofile = { soft = 65536, hard = 65536 } }; shared_memory_mib: /dev/shm, on instances."
  type = object({
    user              = optional(string)
    read_only         = optional(bool, false)
    add               = optional(list(string), [])
    drop              = optional(list(string), [])
    ulimits           = optional(map(object({ soft = number, hard = number })), {})
    shared_memory_mib = optional(number)
  })
  default  = {}
  nullable = false
}

variable "enable_execute_command" {
  description = "Whether `aws ecs execute-command` opens a shell in a task. In a VPC without a way out it needs the endpoint ssmmessages."
  type        = bool
  default     = false
  nullable    = false
}

variable "container_definitions" {
  description = "Further parts of container definitions, as ECS names them, by the container: { worker = { workingDirectory = \"/app\" } }. They come in place of what is made here."
  type        = any
  default     = {}
  nullable    = false
}

variable "health_check" {
  description = "How ECS sees in the container whether it is well. command: [\"CMD\", \"haulage\", \"health\"] where a worker of Haulage runs and the program or the Python package is on the PATH; start_period: seconds after the start during which failed checks do not count. A worker answers from its start, while it loads a model, too; a container with another server may take longer. Null for none."
  type = object({
    command      = list(string)
    start_period = optional(number, 120)
  })
  default = null
}

variable "cluster_arn" {
  description = "ARN of an ECS cluster that is there already, with the capacity providers that the tasks need; null makes one of the pipeline's name."
  type        = string
  default     = null
}

variable "create_cluster" {
  description = "Whether to make a cluster. Null: where cluster_arn is null. Say false if the same apply makes it, as it cannot be known in time whether that is null."
  type        = bool
  default     = null
}

variable "cpu" {
  description = "CPU units of a task; 1024 are one vCPU."
  type        = number
  default     = 1024
  nullable    = false
}

variable "memory" {
  description = "Memory of a task, in MiB."
  type        = number
  default     = 4096
  nullable    = false
}

variable "ephemeral_storage_gib" {
  description = "Disk of a task on Fargate, in GiB, image included: 21 to 200; null for the 20 that it has anyway."
  type        = number
  default     = null
}

variable "gpus" {
  description = "GPUs of a task; they need a capacity_provider."
  type        = number
  default     = 0
  nullable    = false
}

variable "cpu_architecture" {
  description = "X86_64 or ARM64, as the image was built."
  type        = string
  default     = "X86_64"
  nullable    = false
}

variable "fargate" {
  description = "How tasks are spread over Fargate and Fargate Spot: base (tasks on demand), weight, spot_weight."
  type = object({
    base        = optional(number, 0)
    weight      = optional(number, 1)
    spot_weight = optional(number, 0)
  })
  default  = {}
  nullable = false
}

variable "capacity_provider" {
  description = "Name of a capacity provider of ECS Managed Instances or EC2, in place of Fargate; docs/deploy.md has how to make one."
  type        = string
  default     = null
}

variable "capacity_provider_type" {
  description = "What capacity_provider provides: MANAGED_INSTANCES or EC2."
  type        = string
  default     = "MANAGED_INSTANCES"
  nullable    = false
}

variable "concurrency" {
  description = "Jobs that a task runs side by side."
  type        = number
  default     = 1
  nullable    = false
}

variable "desired_count" {
  description = "Tasks at first, and not fewer than service_autoscaling_min_capacity; null for that, or without autoscaling for 1. With 0, the first apply needs no image: a task starts with the first job. Later applies leave their number alone: autoscaling has the say, or without it `aws ecs update-service --desired-count`."
  type        = number
  default     = null
}

variable "heartbeat_interval" {
  description = "How often a task extends the leases of its jobs, in seconds."
  type        = number
  default     = 10
  nullable    = false
}

variable "heartbeat_visibility_timeout_seconds" {
  description = "How long a job stays with a task without a heartbeat, in seconds."
  type        = number
  default     = 30
  nullable    = false
}

variable "enable_ecs_scalein_protection" {
  description = "Whether a task that works is protected from scale-in and deployments."
  type        = bool
  default     = true
  nullable    = false
}

variable "keep_successes" {
  description = "Whether results are written so that the earlier package of `Consumer` and `Producer` can read them: without a time at which DynamoDB deletes them."
  type        = bool
  default     = false
  nullable    = false
}

variable "rollback" {
  description = "Whether a deployment that fails goes back to the last one that worked."
  type        = bool
  default     = true
  nullable    = false
}

variable "wait_for_steady_state" {
  description = "Whether an apply waits until the tasks run."
  type        = bool
  default     = false
  nullable    = false
}

variable "log_retention_days" {
  description = "For how long logs are kept, in days."
  type        = number
  default     = 30
  nullable    = false
}
