# The containers of a task: the worker, and what runs beside it.

locals {
  log = {
    logDriver = "awslogs"
    options = {
      awslogs-group         = aws_cloudwatch_log_group.worker.name
      awslogs-region        = data.aws_region.current.region
      awslogs-stream-prefix = "worker"
      # Logs that cannot be shipped must not stop the jobs.
      mode            = "non-blocking"
      max-buffer-size = "4m"
    }
  }

  worker = {
    name      = "worker"
    image     = var.image
    essential = true
    command   = var.command
    # Sorted, so that the definition changes only when a value does.
    environment = [for name in sort(keys(local.environment)) : { name = name, value = local.environment[name] }]
    secrets     = local.secrets_of["worker"]
    # The most on Fargate; 30 if nothing is said.
    stopTimeout = 120
    linuxParameters = { for name, value in {
      initProcessEnabled = true
      sharedMemorySize   = var.container.shared_memory_mib
      capabilities = length(var.container.add) + length(var.container.drop) == 0 ? null : {
        for name, list in { add = var.container.add, drop = var.container.drop } : name => list if length(list) > 0
      }
    } : name => value if value != null }
    user                   = var.container.user
    readonlyRootFilesystem = var.container.read_only ? true : null
    ulimits = length(var.container.ulimits) == 0 ? null : [
      for name in sort(keys(var.container.ulimits)) :
      { name = name, softLimit = var.container.ulimits[name].soft, hardLimit = var.container.ulimits[name].hard }
    ]
    mountPoints = length(var.volumes) == 0 ? null : [
      for name in sort(keys(var.volumes)) :
      { sourceVolume = name, containerPath = var.volumes[name].path, readOnly = var.volumes[name].read_only }
    ]
    dependsOn = length(var.sidecars) == 0 ? null : [
      for name in sort(keys(var.sidecars)) : { containerName = name, condition = var.sidecars[name].wait_for }
    ]
    healthCheck = var.health_check == null ? null : merge(local.health_checks, {
      command     = var.health_check.command
      startPeriod = var.health_check.start_period
    })
    resourceRequirements = var.gpus > 0 ? [{ type = "GPU", value = tostring(var.gpus) }] : null
    logConfiguration     = local.log
  }

  health_checks = { interval = 30, timeout = 5, retries = 3 }

  # The worker stops first, as it depends on the others: they stop once it has ended.
  sidecars = [for name in sort(keys(var.sidecars)) : {
    name        = name
    image       = var.sidecars[name].image
    essential   = var.sidecars[name].essential
    command     = var.sidecars[name].command
    entryPoint  = var.sidecars[name].entry_point
    cpu         = var.sidecars[name].cpu
    memory      = var.sidecars[name].memory
    environment = [for key in sort(keys(var.sidecars[name].environment)) : { name = key, value = var.sidecars[name].environment[key] }]
    secrets     = local.secrets_of[name]
    mountPoints = length(var.sidecars[name].mounts) == 0 ? null : [
      for volume in sort(keys(var.sidecars[name].mounts)) :
      { sourceVolume = volume, containerPath = var.sidecars[name].mounts[volume], readOnly = var.volumes[volume].read_only }
    ]
    healthCheck = var.sidecars[name].health_check == null ? null : merge(local.health_checks, {
      command     = var.sidecars[name].health_check.command
      startPeriod = var.sidecars[name].health_check.start_period
    })
    resourceRequirements = var.sidecars[name].gpus > 0 ? [{ type = "GPU", value = tostring(var.sidecars[name].gpus) }] : null
    logConfiguration     = merge(local.log, { options = merge(local.log.options, { awslogs-stream-prefix = name }) })
  }]

  # A field that is null is left out, as ECS does when it is asked.
  containers = [for container in concat([local.worker], local.sidecars) : merge(
    { for field, value in container : field => value if value != null },
    try(var.container_definitions[container.name], {}),
  )]

  secrets = merge(
    { worker = var.secrets },
    { for name, sidecar in var.sidecars : name => sidecar.secrets },
  )
  secrets_of = { for name, secrets in local.secrets : name => length(secrets) == 0 ? null : [
    for key in sort(keys(secrets)) : { name = key, valueFrom = secrets[key] }
  ] }
  # Without the key in a secret, and its version.
  secret_arns = distinct([for arn in flatten([for secrets in values(local.secrets) : values(secrets)]) :
    strcontains(arn, ":secretsmanager:") ? join(":", slice(split(":", arn), 0, 7)) : arn
  ])

  # What the tasks may pull besides the worker's image.
  sidecar_repositories = [for image in distinct(values(var.sidecars)[*].image) :
    format(
      "arn:%s:ecr:%s:%s:repository/%s", data.aws_partition.current.partition, regex("[.-]ecr\\.([a-z0-9-]+)\\.", image)[0],
      split(".", image)[0], regex("/([^:@]+)", image)[0],
    ) if can(regex("^[0-9]{12}\\.dkr[.-]ecr\\.", image))
  ]

  file_systems = { for name, volume in var.volumes : name => merge(volume.efs, { read_only = volume.read_only }) if volume.efs != null }
}
