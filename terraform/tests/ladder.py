"""Checks the Terraform, from its form to an apply on an emulator of AWS.

`make test-terraform` runs it. Each step prints a line when it is through;
the first that fails ends the run, with what was said.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile

import checks
import costs
import form
import full
import planned
import released
import schema
import task_tokens
from downlevel import Downlevel

HERE = pathlib.Path(__file__).parent.resolve()
ROOT = HERE.parent
TOOLS = ROOT.parent / ".tools" / "terraform"
OLD_PROVIDER = "3.39.0"
ROOTS = ["endpoints", "scaler", "inference_pipeline", "examples/minimal", "examples/complete"]
# The genuine provider is older than ECS Managed Instances.
ONLY_CURRENT = ["examples/gpu", "examples/gpu_ec2"]
REGION = "eu-central-1"
# Of the emulator: one that is free.
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    PORT = probe.getsockname()[1]
ENDPOINT = f"http://127.0.0.1:{PORT}"
# What the emulator is asked for, by the provider's names for the services.
SERVICES = [
    "applicationautoscaling", "cloudwatch", "cloudwatchevents", "cloudwatchlogs", "dynamodb", "ec2", "ecr",
    "ecs", "iam", "kms", "lambda", "s3", "sns", "sqs", "ssm", "stepfunctions", "sts",
]


class Failed(Exception):
    pass


def terraform(folder: pathlib.Path, *arguments: str, ok=(0,), **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(HERE / "terraform.py"), f"-chdir={folder}", *arguments]
    configuration = {"TF_CLI_CONFIG_FILE": str(TOOLS / "work" / "terraformrc"), "CHECKPOINT_DISABLE": "1"}
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}
    everything = {**os.environ, **configuration, **credentials, "TF_IN_AUTOMATION": "1", **environment}
    result = subprocess.run(command, env=everything, capture_output=True, text=True)
    if result.returncode not in ok:
        said = f"{result.stdout}\n{result.stderr}".strip()
        raise Failed(f"terraform {' '.join(arguments)} in {folder.name} ended with {result.returncode}\n{said}")
    return result


@contextlib.contextmanager
def step(name: str):
    began = time.monotonic()
    try:
        yield
    except (Failed, AssertionError) as problem:
        print(f"FAILED  {name}\n{problem}", flush=True)
        sys.exit(1)
    print(f"ok      {name} ({time.monotonic() - began:.0f} s)", flush=True)


@contextlib.contextmanager
def running(*command: str, **options):
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            # The emulator waits for whoever waits for a message.
            process.kill()
            process.wait()


def current_schema(work: pathlib.Path) -> None:
    """Against the schema of the current provider: names, types, and the tests
    beside the stacks, with their mocks."""
    current = work / "current"
    shutil.copytree(ROOT, current, ignore=shutil.ignore_patterns("tests/*.py"))
    library = TOOLS / "npm" / "node_modules" / "@cdktn" / "provider-aws" / "lib"
    described = work / "schema.json"
    described.write_text(json.dumps(schema.build(library, *schema.types_in(ROOT))))
    with tempfile.TemporaryDirectory() as folder:
        command = (sys.executable, str(HERE / "provider.py"), str(described), f"{folder}/socket")
        with running(*command, stdout=subprocess.PIPE, text=True) as provider:
            reattach = {"TF_REATTACH_PROVIDERS": provider.stdout.readline()}
            for root in ROOTS + ONLY_CURRENT:
                with step(f"current provider: validate {root}"):
                    terraform(current / root, "init", "-input=false", **reattach)
                    terraform(current / root, "validate", **reattach)
            with step("current provider: what is planned for a pipeline"):
                planned.pipeline(plan(current / "inference_pipeline", work / "planned", PLANNED, reattach), PLANNED)
            vpc = {key: PLANNED[key] for key in ("vpc_id", "subnet_ids")}
            package = {"lambda_package": str(ROOT / "inference_pipeline" / "tests" / "package.zip")}
            server = {"server_image": f"{checks.ACCOUNT}.dkr.ecr.eu-central-1.amazonaws.com/server:v3"}
            for root, check, more in (
                ("minimal", planned.minimal, {}), ("gpu", planned.on_instances, server),
                ("gpu_ec2", planned.on_ec2, {}),
            ):
                with step(f"current provider: what is planned for examples/{root}"):
                    check(plan(current / "examples" / root, work / root, vpc | package | more, reattach))
            with step("current provider: what is planned for a pipeline in public subnets"):
                public = PLANNED | {"sqs_vpc_endpoint_id": None, "assign_public_ip": True}
                planned.in_public(plan(current / "inference_pipeline", work / "public", public, reattach))
            with step("current provider: the stack scaler, from a repository"):
                published(work, reattach)
            with step("current provider: what is refused is told with what would do"):
                for values, words in REFUSED:
                    refused(current / "inference_pipeline", work / "refused.tfvars.json", PLANNED | values, words, reattach)
            tested = sorted({path.parents[1].relative_to(current) for path in current.rglob("*.tftest.hcl")})
            for folder in tested:
                with step(f"current provider: terraform test {folder}"):
                    terraform(current / folder, "init", "-input=false", **reattach)
                    said = terraform(current / folder, "test", "-no-color", **reattach).stdout
                    if "Success!" not in said or " 0 passed" in said:
                        raise Failed(f"no test ran:\n{said}")


def published(work: pathlib.Path, reattach: dict) -> None:
    """What the README of the stack scaler shows: its source, from a repository, as others take it."""
    repository, root = work / "repository", work / "published"
    shutil.copytree(ROOT, repository / "terraform", ignore=shutil.ignore_patterns("tests"))
    git = ["git", "-C", str(repository), "-c", "user.name=test", "-c", "user.email=test@example.com"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "A version"], ["tag", "v0.1.0"]):
        subprocess.run([*git, *command], check=True)
    call = (ROOT / "scaler" / "README.md").read_text().split("```hcl\n")[1].split("```")[0]
    source = "git::https://github.com/haulage/haulage//"
    assert source in call, call
    root.mkdir()
    (root / "main.tf").write_text(call.replace(source, f"git::file://{repository}//").replace("…", "0" * 64))
    terraform(root, "init", "-input=false", **reattach)
    terraform(root, "validate", **reattach)


PLANNED = {
    "vpc_id": "vpc-0123456789abcdef0",
    "subnet_ids": ["subnet-0123456789abcdef0"],
    "sqs_vpc_endpoint_id": "vpce-0123456789abcdef0",
    "lambda_package": {"path": "tests/package.zip"},
    "cpu_architecture": "ARM64",
    "container_tag": "v1",
    "ecr_keep_images": 100,
    "enable_dashboard": True,
    # With all that has roles.
    "completion_events": {},
    "step_functions": {},
    "permissions_boundary": f"arn:aws:iam::{checks.ACCOUNT}:policy/bounds",
    "iam_path": "/search/",
    "tags": {"team": "search"},
}


# That these are refused, the tests beside the stacks show; here is what is said.
REFUSED = [
    ({"lambda_package": None}, "`make lambda` builds it; set lambda_package to"),
    ({"memory": 1024}, "One vCPU (1024) goes with 2048 to 8192 MiB"),
    ({"gpus": 1}, "set capacity_provider to one of ECS Managed Instances or EC2"),
    ({"heartbeat_interval": 20}, "too late for a lease of 30 s: let two fit into it"),
    ({"queue_message_retention_seconds": 3600}, "Keep messages for 86400 (a day) to 1209600 seconds"),
    ({"compute_queue_backlog_lambda_invocation_interval": "rate(5 minutes)"}, "set the samples per minute to 2"),
    ({"ecr_keep_images": 1}, "Keep 2 images or more"),
    ({"container_tag": "latest"}, "give a tag such as v1, or set ecr_mutable_tags to true"),
    ({"kms_key_arn": "alias/jobs"}, "not of an alias, such as arn:aws:kms:"),
    ({"queue_senders": {"web": {}}}, "source_arn that it acts for"),
    ({"step_functions": {}, "payload_bucket": False}, "step_functions needs payload_bucket = true"),
]


def refused(folder: pathlib.Path, variables: pathlib.Path, values: dict, words: str, reattach: dict) -> None:
    variables.write_text(json.dumps(values))
    said = terraform(folder, "plan", "-input=false", "-no-color", f"-var-file={variables}", ok=(0, 1), **reattach)
    # A message comes in lines with a bar before each.
    text = " ".join(said.stderr.replace("│", " ").split())
    assert said.returncode == 1 and words in text, f"no {words!r} in\n{said.stdout}\n{said.stderr}"


def plan(folder: pathlib.Path, out: pathlib.Path, values: dict, reattach: dict) -> dict:
    variables = out.with_suffix(".tfvars.json")
    variables.write_text(json.dumps(values))
    terraform(folder, "plan", "-input=false", f"-var-file={variables}", f"-out={out}", **reattach)
    return json.loads(terraform(folder, "show", "-json", str(out), **reattach).stdout)


def downleveled(work: pathlib.Path) -> pathlib.Path:
    """The configuration for the genuine provider, and that nothing but what is
    listed was taken out for it."""
    probe, target = work / "probe", work / "old"
    probe.mkdir()
    required = {"aws": {"source": "hashicorp/aws", "version": OLD_PROVIDER}}
    (probe / "main.tf.json").write_text(json.dumps({"terraform": {"required_providers": required}}))
    with step("genuine provider: starts"):
        terraform(probe, "init", "-input=false")
        schemas = json.loads(terraform(probe, "providers", "schema", "-json").stdout)
    known = schemas["provider_schemas"]["registry.terraform.io/hashicorp/aws"]
    downlevel = Downlevel(known, TOOLS / "npm")
    everywhere = {path.parent.relative_to(ROOT) for path in ROOT.rglob("*.tf")}
    folders = sorted(everywhere - {pathlib.Path(root) for root in ONLY_CURRENT})
    for folder in folders:
        downlevel.folder(ROOT / folder, target / folder, OLD_PROVIDER)
    provider = {
        "region": REGION,
        "skip_get_ec2_platforms": True,
        "skip_requesting_account_id": False,
        "s3_force_path_style": True,
        "endpoints": [{service: ENDPOINT for service in SERVICES}],
    }
    for root in ROOTS:
        (target / root / "emulator.tf.json").write_text(json.dumps({"provider": {"aws": provider}}))
    with step("genuine provider: lacks only what is listed"):
        listed = {
            line.split("#")[0].strip() for line in (HERE / "downlevel.txt").read_text().splitlines()
        } - {""}
        new, gone = sorted(downlevel.dropped - listed), sorted(listed - downlevel.dropped)
        if new or gone:
            raise Failed(f"tests/downlevel.txt lacks {new}, and lists {gone} for nothing")
    for root in ROOTS:
        with step(f"genuine provider: validate {root}"):
            terraform(target / root, "init", "-input=false")
            terraform(target / root, "validate")
    return target


@contextlib.contextmanager
def emulator(work: pathlib.Path):
    log = (work / "emulator.log").open("w")
    with running(sys.executable, str(HERE / "emulator.py"), "-p", str(PORT), stdout=log, stderr=log):
        for _ in range(480):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{ENDPOINT}/moto-api/", timeout=10).close()
                break
            time.sleep(0.25)
        else:
            raise Failed(f"the emulator did not start:\n{(work / 'emulator.log').read_text()}")
        yield


class Stack:
    """A root module with variables and a state of its own."""

    def __init__(self, folder: pathlib.Path, name: str, work: pathlib.Path, variables: dict):
        self.folder, self.name = folder, name
        self.state = f"-state={work / f'{name}.tfstate'}"
        self.variables = work / f"{name}.tfvars.json"
        self.variables.write_text(json.dumps(variables))

    def _run(self, verb: str, *arguments: str, **options):
        return terraform(
            self.folder, verb, "-input=false", "-no-color", self.state, f"-var-file={self.variables}",
            *arguments, **options,
        )

    def apply(self, *arguments: str) -> dict:
        self._run("apply", "-auto-approve", *arguments)
        outputs = json.loads(terraform(self.folder, "output", "-json", self.state).stdout)
        return {name: output["value"] for name, output in outputs.items()}

    def plan(self) -> None:
        self._run("plan")

    def assert_settled(self) -> None:
        result = self._run("plan", "-detailed-exitcode", ok=(0, 2))
        if result.returncode == 2:
            changes = result.stdout.split("Terraform will perform")[-1]
            raise Failed(f"{self.name}: a second plan would change things\n{changes}")

    def destroy(self) -> None:
        self._run("destroy", "-auto-approve")


def empty_package(work: pathlib.Path) -> pathlib.Path:
    """A zip in place of the Lambda's, which does not run here."""
    package = work / "lambda.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("bootstrap", "#!/bin/sh\n")
    return package


def on_emulator(work: pathlib.Path, configuration: pathlib.Path) -> None:
    """Applies both stacks, two pipelines on one endpoints stack, for real."""
    package = empty_package(work)
    with emulator(work):
        aws = checks.Aws(ENDPOINT, REGION)
        vpc = aws.make_vpc()
        stack = lambda folder, state, /, **variables: Stack(configuration / folder, state, work, variables)
        clients = {"web": aws.make_group(vpc["vpc_id"], "web")}
        endpoints = stack("endpoints", "endpoints", client_security_groups=clients, only_accounts=[], **vpc)
        with step("emulator: apply the endpoints stack"):
            shared = endpoints.apply() | vpc
        common = {
            "vpc_id": vpc["vpc_id"],
            "subnet_ids": shared["subnet_ids"],
            "sqs_vpc_endpoint_id": shared["vpc_endpoints"]["sqs"],
            "lambda_package": {"path": str(package)},
            "container_tag": "v1",
            "payload_bucket_force_destroy": True,
            "dynamodb_deletion_protection_enabled": False,
        }
        pipelines = {
            "prod": stack(
                "inference_pipeline", "prod", name="prod", enable_dashboard=True, queues=["default", "bulk"], kms_key_arn=aws.make_key(),
                queue_senders={"nightly": {"service": "events.amazonaws.com", "source_arn": checks.RULE}},
                more_services=[{"name": "spot", "fargate": {"weight": 0, "spot_weight": 1}, "max_capacity": 4}], **common,
            ),
            "staging": stack(
                "inference_pipeline", "staging", name="staging", scaler="alarms", create_scaler=False,
                completion_events={}, step_functions={}, service_autoscaling_min_capacity=0, queue_fifo=False, fargate={"weight": 0, "spot_weight": 1}, **common,
            ),
        }
        # As docs/deploy.md has it: tasks that find no image would fail.
        with step("emulator: the repository alone comes first"):
            first = pipelines["prod"].apply("-target=module.repository")
            aws.assert_repository_alone("prod", first)
        outputs = {}
        for name, pipeline in pipelines.items():
            with step(f"emulator: apply the pipeline {name}"):
                outputs[name] = pipeline.apply()
        # Beside a pipeline, a service that is there already.
        pairs = outputs["staging"]["scaler_pairs"] | {"thumbnails": checks.THUMBNAILS}
        scaler = stack("scaler", "scaler", pairs=pairs, lambda_package=common["lambda_package"])
        with step("emulator: apply the stack scaler"):
            shared["alarm_names"] = scaler.apply()["alarm_names"]
        for each in [endpoints, *pipelines.values(), scaler]:
            with step(f"emulator: a second plan of {each.name} is empty"):
                each.assert_settled()
        for name, check in checks.all_checks():
            with step(f"emulator: {name}"):
                check(aws, shared, outputs)
        with step("emulator: the Lambda from the file of a release"):
            of_release = lambda package: stack(
                "scaler", "released", name="released", pairs={"thumbnails": checks.THUMBNAILS}, lambda_package=package,
            )
            released.check(of_release, work, package)
        # Without endpoints, and with all that a task may have.
        everything = full.variables(aws, vpc["vpc_id"])
        outside = {key: value for key, value in common.items() if key != "sqs_vpc_endpoint_id"}
        for where, public_ip in (("public subnets", True), ("private subnets with a NAT gateway", False)):
            alone = stack(
                "inference_pipeline", "full", name="full", assign_public_ip=public_ip, enable_autoscaling=False,
                **outside, **everything,
            )
            with step(f"emulator: apply a pipeline in {where}"):
                alone.apply()
                full.check(aws, everything, public_ip)
            with step(f"emulator: a second plan of it in {where} is empty"):
                alone.assert_settled()
        package.unlink()  # A destroy does without.
        for each in [alone, scaler, *pipelines.values(), endpoints]:
            with step(f"emulator: destroy {each.name}"):
                each.destroy()
        package = empty_package(work)
        with step("emulator: nothing is left"):
            full.remove_cluster(aws, everything["cluster_arn"])
            aws.assert_nothing_left()
        # Made of what was applied above; that they go as a whole, with nothing
        # there yet, is what is left to see. The emulator ends with them.
        minimal = stack("examples/minimal", "minimal", lambda_package=str(package), **vpc)
        with step("emulator: plan examples/minimal"):
            minimal.plan()
        complete = stack("examples/complete", "complete", lambda_package=str(package))
        with step("emulator: apply examples/complete"):
            complete.apply()
            checks.complete(aws)
        with step("emulator: a second plan of examples/complete is empty"):
            complete.assert_settled()


def scanners() -> None:
    skipped = set()
    with step("scanners: each skip has its reason"):
        for line in (HERE / "scanner-skips.txt").read_text().splitlines():
            check, _, reason = line.partition(" ")
            if line and not line.startswith("#"):
                assert reason.strip(), f"scanner-skips.txt gives no reason for {check}"
                skipped.add(check)
    programs = TOOLS / "scanners" / "bin"
    checkov = ["--directory", ROOT, "--framework", "terraform", "--skip-download", "--quiet", "--compact", "-o", "json"]
    trivy = ["config", "--skip-check-update", "--quiet", "--format", "json", ROOT]
    for name, arguments, found_by in (("checkov", checkov, _by_checkov), ("trivy", trivy, _by_trivy)):
        with step(f"scanners: {name}"):
            result = subprocess.run([programs / name, *arguments], capture_output=True, text=True)
            try:
                found = found_by(json.loads(result.stdout))
            except (ValueError, KeyError):
                raise Failed(f"{result.stdout}\n{result.stderr}") from None
            new = [text for check, texts in sorted(found.items()) if check not in skipped for text in texts]
            assert not new, "\n".join(new)
            needless = {check for check in skipped if check.startswith("CKV") == (name == "checkov")} - set(found)
            assert not needless, f"scanner-skips.txt skips for nothing: {sorted(needless)}"


def _by_checkov(said: dict) -> dict[str, list[str]]:
    found = {}
    for check in said["results"]["failed_checks"]:
        text = f"{check['check_id']} {check['check_name']}: {check['resource']} in {check['file_path']}"
        found.setdefault(check["check_id"], []).append(text)
    return found


def _by_trivy(said: dict) -> dict[str, list[str]]:
    found = {}
    for result in said["Results"]:
        for check in result.get("Misconfigurations", []):
            text = f"{check['ID']} {check['Title']}: {check['Message']} ({result['Target']})"
            found.setdefault(check["ID"], []).append(text)
    return found


def prepared() -> pathlib.Path:
    """An empty folder to work in, and the place of the provider in it."""
    work = TOOLS / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    mirror = f'filesystem_mirror {{\n    path = "{TOOLS / "mirror"}"\n  }}'
    (work / "terraformrc").write_text(f"provider_installation {{\n  {mirror}\n}}\n")
    return work


def main() -> None:
    work = prepared()
    began = time.monotonic()
    with step("formatting"):
        terraform(ROOT, "fmt", "-check", "-recursive", "-diff")
    with step("variables: all are described, used and handed on"):
        faults = form.faults(ROOT)
        assert not faults, "\n".join(faults)
    page = (ROOT.parent / "docs" / "deploy.md").read_text()
    with step("outputs: docs/deploy.md names all of them"):
        unnamed = form.unnamed_outputs(ROOT, page)
        assert not unnamed, f"docs/deploy.md says nothing of the outputs {unnamed}"
    with step("costs: docs/deploy.md has what `make costs` prints"):
        missing = [line for line in ["\n".join(costs.table()), "\n".join(costs.choices()), *costs.sentences()] if line not in page]
        assert not missing, "put this into docs/deploy.md:\n" + "\n".join(missing)
    with step("Step Functions: what is told of each record"):
        task_tokens.check(work, TOOLS / "npm")
    # They look at the text alone, so they need not wait for the rest.
    with concurrent.futures.ThreadPoolExecutor() as beside:
        scans = beside.submit(scanners)
        current_schema(work)
        on_emulator(work, downleveled(work))
        scans.result()
    print(f"terraform: all is well, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
