# What is in a task, besides the worker's image.

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

  validation {
    condition     = alltrue([for name in keys(var.sidecars) : can(regex("^[A-Za-z0-9_-]{1,255}$", name)) && name != "worker"])
    error_message = "The name of a container has 1 to 255 letters, digits, hyphens and underscores; worker is the worker's."
  }

  validation {
    condition     = alltrue([for sidecar in values(var.sidecars) : contains(["START", "HEALTHY", "SUCCESS"], sidecar.wait_for) && (sidecar.wait_for != "HEALTHY" || sidecar.health_check != null) && (sidecar.wait_for != "SUCCESS" || !sidecar.essential)])
    error_message = "The worker waits for START, for HEALTHY of a sidecar with a health_check, or for SUCCESS of one that ends and is not essential."
  }

  validation {
    condition     = alltrue(flatten([for sidecar in values(var.sidecars) : [for name in keys(sidecar.mounts) : contains(keys(var.volumes), name)]]))
    error_message = "The mounts of a sidecar are paths by the names of volumes: add the volume."
  }

  validation {
    condition     = alltrue([for sidecar in values(var.sidecars) : can(regex("^[^\\s]+[:@][^/\\s]+$", sidecar.image))])
    error_message = "Give the image of a sidecar with its tag or digest, such as public.ecr.aws/docker/library/redis:7."
  }

  validation {
    condition     = var.capacity_provider != null || alltrue([for sidecar in values(var.sidecars) : sidecar.gpus == 0])
    error_message = "Fargate has no GPU: set capacity_provider to one of ECS Managed Instances or EC2 that has."
  }
}

variable "secrets" {
  description = "Environment variables of the worker from secrets: the ARN of a secret of Secrets Manager, with :KEY:: at its end for one key of it, or of a parameter of Parameter Store. They are read when a task starts. Tasks in a VPC without a way out need the endpoint secretsmanager, or ssm."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for arn in values(var.secrets) : can(regex("^arn:[^:]+:secretsmanager:[^:]+:[0-9]{12}:secret:[^:]+(:[^:]*:[^:]*:[^:]*)?$", arn)) || can(regex("^arn:[^:]+:ssm:[^:]+:[0-9]{12}:parameter/", arn))])
    error_message = "A secret is the ARN of one of Secrets Manager, such as arn:aws:secretsmanager:eu-central-1:123456789012:secret:hub-AbCdEf (with :token:: at its end for the key token of it), or of a parameter, such as arn:aws:ssm:eu-central-1:123456789012:parameter/hub."
  }

  validation {
    condition     = length(setintersection(keys(var.secrets), keys(var.environment))) == 0
    error_message = "A variable is either in the environment or a secret: ECS refuses both."
  }
}

variable "secrets_kms_key_arns" {
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

  validation {
    condition     = alltrue([for name, volume in var.volumes : can(regex("^[A-Za-z0-9_-]{1,255}$", name)) && startswith(volume.path, "/")])
    error_message = "A volume has a name of letters, digits, hyphens and underscores, and an absolute path, such as { models = { path = \"/models\" } }."
  }

  validation {
    condition     = alltrue([for volume in values(var.volumes) : volume.host_path == null || (volume.efs == null && var.capacity_provider != null)])
    error_message = "A host_path is a path of an instance: it needs a capacity_provider, and cannot be combined with efs."
  }

  validation {
    condition = alltrue([for volume in values(var.volumes) : volume.efs == null || try(
      can(regex("^arn:[^:]+:elasticfilesystem:[^:]+:[0-9]{12}:file-system/fs-[0-9a-f]+$", volume.efs.file_system_arn)) &&
      (volume.efs.access_point_arn == null || can(regex(":access-point/fsap-[0-9a-f]+$", volume.efs.access_point_arn))) &&
      (volume.efs.access_point_arn == null || volume.efs.root_directory == "/"), false
    )])
    error_message = "efs has the file_system_arn, such as arn:aws:elasticfilesystem:eu-central-1:123456789012:file-system/fs-0123456789abcdef0, and either the ARN of an access point, which has its own root, or a root_directory."
  }
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

  validation {
    condition     = var.capacity_provider != null || var.container.shared_memory_mib == null
    error_message = "Fargate has no shared_memory_mib; on instances, with a capacity_provider, there is."
  }

  validation {
    condition     = var.capacity_provider != null || length(setsubtract(keys(var.container.ulimits), ["nofile"])) == 0
    error_message = "On Fargate, nofile is the one ulimit that can be set."
  }

  validation {
    condition     = var.capacity_provider != null || length(setsubtract(var.container.add, ["SYS_PTRACE"])) == 0
    error_message = "On Fargate, SYS_PTRACE is the one capability that can be added."
  }
}

variable "enable_execute_command" {
  description = "Whether `aws ecs execute-command` opens a shell in a task. In a VPC without a way out it needs the endpoint ssmmessages."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.enable_execute_command || !var.container.read_only
    error_message = "ECS Exec writes into the container: it does not go with container.read_only (ECS Developer Guide, \"Monitor Amazon ECS containers with ECS Exec\")."
  }
}

variable "container_definitions" {
  description = "Further parts of container definitions, as ECS names them, by the container: { worker = { workingDirectory = \"/app\" } }. They come in place of what is made here."
  type        = any
  default     = {}
  nullable    = false

  validation {
    condition     = can(keys(var.container_definitions)) && length(setsubtract(try(keys(var.container_definitions), []), concat(["worker"], keys(var.sidecars)))) == 0
    error_message = "container_definitions has parts for worker and for the sidecars, by their names."
  }
}
