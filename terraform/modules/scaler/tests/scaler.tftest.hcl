mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { region = "eu-central-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
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
  mock_resource "aws_lambda_function" {
    defaults = { arn = "arn:aws:lambda:eu-central-1:123456789012:function:made-up" }
  }
  mock_resource "aws_cloudwatch_event_rule" {
    defaults = { arn = "arn:aws:events:eu-central-1:123456789012:rule/made-up" }
  }
}

variables {
  name           = "jobs"
  pairs          = { jobs = { cluster = "jobs", service = "jobs", queue = "jobs.fifo", min_tasks = 0, max_tasks = 700, scale_in_window_seconds = 45 } }
  lambda_package = { path = "../../inference_pipeline/tests/package.zip" }
}

run "a_service_that_is_there_already" {
  assert {
    condition = jsondecode(aws_cloudwatch_event_target.lambda["lambda"].input) == {
      samples_per_minute = 6
      pairs = [{
        cluster         = "jobs"
        service         = "jobs"
        queue_name      = "jobs.fifo"
        queue_url       = "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs.fifo"
        more_queue_urls = []
        slots_per_task  = 1
        slots_before    = 0
        job_seconds     = 60
        target_seconds  = 60
        dashboard       = false
        direct          = { min_tasks = 0, max_tasks = 700, scale_in_window_seconds = 45 }
      }]
    }
    error_message = "Names are enough: ${aws_cloudwatch_event_target.lambda["lambda"].input}"
  }
  assert {
    condition     = [for statement in data.aws_iam_policy_document.lambda.statement : statement.resources if contains(statement.actions, "ecs:UpdateService")] == [toset(["arn:aws:ecs:eu-central-1:123456789012:service/jobs/jobs"])]
    error_message = "It may change this service, and no other."
  }
  assert {
    condition     = alltrue([for statement in data.aws_iam_policy_document.lambda.statement : length(statement.condition) == 0 if contains(statement.actions, "ecs:UpdateService")])
    error_message = "Nobody has said which tasks it has."
  }
  assert {
    condition     = aws_lambda_function.autoscale.runtime == "provided.al2023" && aws_lambda_function.autoscale.architectures == tolist(["arm64"]) && aws_lambda_function.autoscale.timeout < 60
    error_message = "A Rust program on arm64 that ends within its minute."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.lambda_silent[0].treat_missing_data == "breaching" && length(output.alarm_names) == 2
    error_message = "No data is what this alarm is about."
  }
}

run "the_tasks_of_a_family" {
  variables {
    pairs = {
      known = { cluster = "jobs", service = "known", queue = "jobs", task_family = "known" }
      other = { cluster = "jobs", service = "other", queue = "jobs" }
    }
  }
  assert {
    condition = { for statement in data.aws_iam_policy_document.lambda.statement : statement.sid => [
      for condition in statement.condition : [condition.test, condition.variable, one(condition.values)]
      ] if contains(statement.actions, "ecs:UpdateService") } == {
      Scale    = [["ArnLikeIfExists", "ecs:task-definition", "arn:aws:ecs:eu-central-1:123456789012:task-definition/known:*"]]
      ScaleAny = []
    }
    error_message = "A service gets no other tasks than those of its family, where that is known."
  }
  assert {
    condition     = !strcontains(aws_cloudwatch_event_target.lambda["lambda"].input, "task_family")
    error_message = "The program need not know."
  }
}

run "many_pipelines" {
  variables {
    pairs = merge(
      { for number in range(44) : format("p%02d", number) => { cluster = "c${number}", service = "s${number}", queue = "q${number}" } },
      { zz = { cluster = "slow", service = "slow", queue = "slow", scaler = "alarms" } },
    )
    alarms = false
  }
  assert {
    condition     = [for name in sort(keys(aws_cloudwatch_event_target.lambda)) : length(jsondecode(aws_cloudwatch_event_target.lambda[name].input).pairs)] == [20, 20, 5]
    error_message = "An event has 8,192 characters at most."
  }
  assert {
    condition     = alltrue([for target in aws_cloudwatch_event_target.lambda : length(target.input) < 8192])
    error_message = "And so many these are."
  }
  assert {
    condition = { for statement in data.aws_iam_policy_document.lambda.statement :
      statement.sid => length(statement.resources) if contains(statement.actions, "ecs:DescribeServices")
    } == { Look = 1, ScaleAny = 44 }
    error_message = "The one that alarms scale is looked at, and not changed."
  }
  assert {
    condition     = output.alarm_names == []
    error_message = "No alarms where none are wanted."
  }
}

run "several_queues_of_one_service" {
  variables {
    pairs = { jobs = { cluster = "jobs", service = "jobs", queue = "jobs.fifo", more_queues = [{ name = "jobs--bulk.fifo" }] } }
  }
  assert {
    condition     = jsondecode(aws_cloudwatch_event_target.lambda["lambda"].input).pairs[0].more_queue_urls == ["https://sqs.eu-central-1.amazonaws.com/123456789012/jobs--bulk.fifo"]
    error_message = "What waits in all of them counts."
  }
  assert {
    condition     = data.aws_iam_policy_document.lambda.statement[0].resources == toset(["arn:aws:sqs:eu-central-1:123456789012:jobs.fifo", "arn:aws:sqs:eu-central-1:123456789012:jobs--bulk.fifo"])
    error_message = "It may look at them."
  }
}

run "more_than_a_role_has_room_for" {
  command = plan
  variables {
    pairs = { for number in range(51) : "p${number}" => { cluster = "c${number}", service = "s${number}", queue = "q${number}" } }
  }
  expect_failures = [var.pairs]
}

run "alarms_do_it_alone" {
  variables {
    pairs = { jobs = { cluster = "jobs", service = "jobs", queue = "jobs.fifo", scaler = "alarms" } }
  }
  assert {
    condition     = jsondecode(aws_cloudwatch_event_target.lambda["lambda"].input).pairs[0].direct == null && jsondecode(aws_cloudwatch_event_target.lambda["lambda"].input).samples_per_minute == 4
    error_message = "Two who scale would undo what the other does."
  }
  assert {
    condition     = length([for statement in data.aws_iam_policy_document.lambda.statement : statement if contains(statement.actions, "ecs:UpdateService")]) == 0
    error_message = "The account may not grant it."
  }
}

run "a_package_in_s3" {
  variables {
    lambda_package = { s3_bucket = "builds", s3_key = "autoscale.zip", sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }
  }
  assert {
    condition     = aws_lambda_function.autoscale.s3_key == "autoscale.zip" && local.file == null && length(terraform_data.download) == 0
    error_message = "Lambda takes it from there."
  }
  assert {
    condition     = aws_lambda_function.autoscale.source_code_hash == "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
    error_message = "Another one is noticed: ${aws_lambda_function.autoscale.source_code_hash}"
  }
}

run "a_package_of_a_release" {
  command = plan
  variables {
    lambda_package = { url = "https://example.com/autoscale.zip", sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }
  }
  assert {
    condition     = endswith(aws_lambda_function.autoscale.filename, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad.zip") && length(terraform_data.download) == 1
    error_message = "It is downloaded under the name of its hash."
  }
}

run "packages_that_cannot_be" {
  command = plan
  variables {
    lambda_package = { url = "http://example.com/autoscale.zip", s3_key = "autoscale.zip", sha256 = "abc" }
  }
  expect_failures = [var.lambda_package]
}

run "refused_without_a_package" {
  command = plan
  variables {
    lambda_package = { path = "nothing.zip" }
  }
  expect_failures = [aws_lambda_function.autoscale]
}

run "refused" {
  command = plan
  variables {
    invocation_interval = "rate(5 minutes)"
    log_retention_days  = 31
    samples_per_minute  = 5
    lambda_architecture = "x86"
    pairs = {
      jobs  = { cluster = "arn:aws:ecs:eu-central-1:123456789012:cluster/jobs", service = "jobs", queue = "jobs" }
      other = { cluster = "c", service = "s", queue = "q", slots_per_task = 0, min_tasks = 5, max_tasks = 3, job_seconds = 1e10, scale_in_window_seconds = 29, scaler = "both" }
      again = { cluster = "c", service = "s", queue = "p" }
    }
  }
  expect_failures = [
    var.invocation_interval, var.samples_per_minute, var.lambda_architecture, var.log_retention_days, var.pairs,
  ]
}

run "one_sample_a_minute_is_refused" {
  command = plan
  variables {
    samples_per_minute = 1
  }
  expect_failures = [var.samples_per_minute]
}
