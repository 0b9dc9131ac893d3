# What is in a task besides the worker's image.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/made-up" }
  }
}

variables {
  name                       = "jobs"
  image                      = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/model:v1"
  repository_arn             = "arn:aws:ecr:eu-central-1:123456789012:repository/model"
  vpc_id                     = "vpc-0123456789abcdef0"
  subnet_ids                 = ["subnet-0123456789abcdef0"]
  endpoint_security_group_id = "sg-0123456789abcdef0"
  gateway_prefix_list_ids    = ["pl-1", "pl-2"]
  queue_name                 = "jobs.fifo"
  table_name                 = "jobs-records"
  consume_policy             = "{\"Version\":\"2012-10-17\",\"Statement\":[]}"
}

run "a_model_server_beside_the_worker" {
  variables {
    command           = ["haulage", "worker", "--http", "http://127.0.0.1:8080/invocations"]
    capacity_provider = "gpu"
    sidecars = {
      model = {
        image        = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/server:v3"
        environment  = { MODEL = "small" }
        secrets      = { HUB_TOKEN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:hub-AbCdEf:token::" }
        gpus         = 1
        mounts       = { models = "/models" }
        wait_for     = "HEALTHY"
        health_check = { command = ["CMD-SHELL", "curl -f localhost:8080/ping"] }
      }
    }
    volumes = { models = { path = "/models", read_only = true, efs = {
      file_system_arn   = "arn:aws:elasticfilesystem:eu-central-1:123456789012:file-system/fs-0123456789abcdef0"
      access_point_arn  = "arn:aws:elasticfilesystem:eu-central-1:123456789012:access-point/fsap-0123456789abcdef0"
      security_group_id = "sg-0123456789abcdef9"
    } } }
  }
  assert {
    condition     = [for container in jsondecode(aws_ecs_task_definition.worker.container_definitions) : container.name] == ["worker", "model"]
    error_message = "The worker comes first."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].dependsOn == [{ condition = "HEALTHY", containerName = "model" }]
    error_message = "It starts once the model can answer, and stops before it."
  }
  assert {
    condition = jsondecode(aws_ecs_task_definition.worker.container_definitions)[1].resourceRequirements == [{ type = "GPU", value = "1" }] && !can(
      jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].resourceRequirements
    )
    error_message = "The GPU is the server's."
  }
  assert {
    condition = jsondecode(aws_ecs_task_definition.worker.container_definitions)[1].mountPoints == [
      { containerPath = "/models", readOnly = true, sourceVolume = "models" }
    ]
    error_message = "It finds its model."
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.worker.container_definitions)[1].logConfiguration.options.awslogs-stream-prefix == "model"
    error_message = "Its log is told from the worker's."
  }
  assert {
    condition     = contains(data.aws_iam_policy_document.execution.statement[1].resources, "arn:aws:ecr:eu-central-1:123456789012:repository/team/server")
    error_message = "Its image can be pulled: ${jsonencode(data.aws_iam_policy_document.execution.statement[1].resources)}"
  }
  assert {
    condition     = one([for statement in data.aws_iam_policy_document.execution.statement : one(statement.resources) if statement.sid == "Secrets"]) == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:hub-AbCdEf"
    error_message = "The secret can be read, which has no key in its ARN."
  }
  assert {
    condition = one([for statement in data.aws_iam_policy_document.consumer.statement : [
      tolist(statement.actions), one(statement.condition).values,
    ] if statement.sid == "Mount0"]) == [tolist(["elasticfilesystem:ClientMount"]), tolist(["arn:aws:elasticfilesystem:eu-central-1:123456789012:access-point/fsap-0123456789abcdef0"])]
    error_message = "It may mount, and not write."
  }
  assert {
    condition = one([for volume in aws_ecs_task_definition.worker.volume : join(" ", [
      volume.name, volume.efs_volume_configuration[0].file_system_id, volume.efs_volume_configuration[0].transit_encryption,
      volume.efs_volume_configuration[0].authorization_config[0].access_point_id,
    ])]) == "models fs-0123456789abcdef0 ENABLED fsap-0123456789abcdef0"
    error_message = "Encrypted on its way, by the access point."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.files_out["models"].referenced_security_group_id == "sg-0123456789abcdef9" && aws_vpc_security_group_ingress_rule.files_in["models"].from_port == 2049
    error_message = "It reaches the mount targets, which let it in."
  }
}

run "a_locked_down_worker" {
  variables {
    secrets              = { HUB_TOKEN = "arn:aws:ssm:eu-central-1:123456789012:parameter/hub" }
    secrets_kms_key_arns = ["arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"]
    volumes              = { tmp = { path = "/tmp" } }
    container = {
      user = "1000:1000", read_only = true, drop = ["ALL"], ulimits = { nofile = { soft = 65536, hard = 65536 } }
    }
    container_definitions = { worker = { workingDirectory = "/app", stopTimeout = 60 } }
  }
  assert {
    condition = jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].linuxParameters == {
      initProcessEnabled = true, capabilities = { drop = ["ALL"] }
    }
    error_message = "What is not set is left out."
  }
  assert {
    condition = { for field in ["user", "readonlyRootFilesystem", "workingDirectory", "stopTimeout", "secrets", "ulimits", "mountPoints"] :
      field => jsonencode(jsondecode(aws_ecs_task_definition.worker.container_definitions)[0][field])
      } == {
      user                   = "\"1000:1000\""
      readonlyRootFilesystem = "true"
      workingDirectory       = "\"/app\""
      stopTimeout            = "60"
      secrets                = jsonencode([{ name = "HUB_TOKEN", valueFrom = "arn:aws:ssm:eu-central-1:123456789012:parameter/hub" }])
      ulimits                = jsonencode([{ hardLimit = 65536, name = "nofile", softLimit = 65536 }])
      mountPoints            = jsonencode([{ containerPath = "/tmp", readOnly = false, sourceVolume = "tmp" }])
    }
    error_message = "As it was said; further parts come in place of what is made here."
  }
  assert {
    condition     = one([for statement in data.aws_iam_policy_document.execution.statement : statement.resources if statement.sid == "KeysOfSecrets"]) == toset(var.secrets_kms_key_arns)
    error_message = "ECS decrypts the secret."
  }
}

run "a_process_for_each_gpu" {
  variables {
    capacity_provider = "gpu"
    gpus              = 4
    concurrency       = 4
    environment       = { HAULAGE_GPUS = "all" }
  }
  assert {
    condition     = !contains([for pair in jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].environment : pair.name], "HAULAGE_CONCURRENCY")
    error_message = "The worker would refuse both."
  }
}

run "a_process_for_each_gpu_by_the_command" {
  variables {
    capacity_provider = "gpu"
    gpus              = 4
    concurrency       = 4
    command           = ["haulage", "worker", "--python", "tasks:embed", "--gpus", "all"]
  }
  assert {
    condition     = !contains([for pair in jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].environment : pair.name], "HAULAGE_CONCURRENCY")
    error_message = "The worker would refuse both."
  }
}

run "gpus_that_are_taken_back" {
  variables {
    concurrency = 4
    environment = { HAULAGE_GPUS = "" }
  }
  assert {
    condition     = contains([for pair in jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].environment : pair.value if pair.name == "HAULAGE_CONCURRENCY"], "4")
    error_message = "An empty variable is none to a worker."
  }
}

run "slots_of_threads" {
  variables {
    concurrency = 4
  }
  assert {
    condition     = contains([for pair in jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].environment : pair.value if pair.name == "HAULAGE_CONCURRENCY"], "4")
    error_message = "So many jobs run side by side."
  }
}

run "a_shell" {
  variables {
    enable_execute_command = true
  }
  assert {
    condition     = aws_ecs_service.worker.enable_execute_command && length([for statement in data.aws_iam_policy_document.consumer.statement : statement if statement.sid == "Exec"]) == 1
    error_message = "The task opens its channel."
  }
}

run "shared_memory_on_instances" {
  variables {
    capacity_provider = "gpu"
    container         = { shared_memory_mib = 8192, add = ["IPC_LOCK"], ulimits = { memlock = { soft = -1, hard = -1 } } }
    volumes           = { scratch = { path = "/scratch", host_path = "/mnt/nvme" } }
  }
  assert {
    condition     = jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].linuxParameters.sharedMemorySize == 8192
    error_message = "For the workers of PyTorch's loaders."
  }
  assert {
    condition     = one(aws_ecs_task_definition.worker.volume[*].host_path) == "/mnt/nvme"
    error_message = "A disk of the instance."
  }
}

run "a_cluster_that_is_there" {
  variables {
    create_cluster = false
    cluster_arn    = "arn:aws:ecs:eu-central-1:123456789012:cluster/shared"
  }
  assert {
    condition     = length(aws_ecs_cluster.this) + length(aws_ecs_cluster_capacity_providers.this) == 0 && aws_ecs_service.worker.cluster == var.cluster_arn
    error_message = "None is made, and its capacity providers are left alone."
  }
  assert {
    condition = contains([
      for pair in jsondecode(aws_ecs_task_definition.worker.container_definitions)[0].environment : pair.value if pair.name == "HAULAGE_CLUSTER_NAME"
    ], "shared")
    error_message = "Metrics have its name."
  }
  assert {
    condition     = endswith(one(one([for statement in data.aws_iam_policy_document.consumer.statement : statement.resources if statement.sid == "ProtectOwnTasks"])), ":task/shared/*")
    error_message = "Tasks of that cluster are protected."
  }
}

run "what_fargate_has_not" {
  command = plan
  variables {
    container = { shared_memory_mib = 64, add = ["SYS_ADMIN"], ulimits = { memlock = { soft = 1, hard = 1 } } }
    volumes   = { scratch = { path = "/scratch", host_path = "/mnt" } }
  }
  expect_failures = [var.container, var.volumes]
}

run "parts_of_no_container" {
  command = plan
  variables {
    container_definitions = { model = { workingDirectory = "/app" } }
  }
  expect_failures = [var.container_definitions]
}

run "no_gpu_on_fargate_either" {
  command = plan
  variables {
    sidecars = { model = { image = "model:v1", gpus = 1 } }
  }
  expect_failures = [var.sidecars]
}

run "a_volume_without_a_place" {
  command = plan
  variables {
    volumes = { models = { path = "models" } }
  }
  expect_failures = [var.volumes]
}

run "what_cannot_be" {
  command = plan
  variables {
    sidecars               = { worker = { image = "model:v1", mounts = { none = "/x" }, wait_for = "HEALTHY" } }
    secrets                = { AWS_REGION = "hub" }
    container              = { read_only = true }
    enable_execute_command = true
    create_cluster         = false
  }
  expect_failures = [
    var.sidecars, var.secrets, var.enable_execute_command, var.cluster_arn,
  ]
}
