"""Takes out of a configuration what an older provider does not know, so that
the rest can be applied with it for real. What was taken out is told, to be
compared with a list: nothing else may slip out of the check.
"""

import json
import pathlib
import re
import shutil
import subprocess

# What has another name, or another value, by the older provider's.
RENAMED = {"data.aws_region.current.name": "data.aws_region.current.region", "provided.al2": "provided.al2023"}
# Rules of security groups, which had one kind for both directions.
RULES = {"aws_vpc_security_group_egress_rule": "egress", "aws_vpc_security_group_ingress_rule": "ingress"}
META = {"count", "for_each", "depends_on", "lifecycle", "provider", "provisioner", "connection"}


class Downlevel:
    def __init__(self, schema: dict, npm: pathlib.Path):
        self.schema = schema
        self.npm = npm
        self.dropped: set[str] = set()

    def folder(self, source: pathlib.Path, target: pathlib.Path, version: str) -> None:
        """Writes the .tf files of `source` into `target` as .tf.json."""
        target.mkdir(parents=True, exist_ok=True)
        environment = {"NODE_PATH": str(self.npm / "node_modules"), "PATH": "/usr/local/bin:/usr/bin:/bin"}
        program = pathlib.Path(__file__).with_name("hcl2json.js")
        output = subprocess.run(
            ["node", program, source], env=environment, check=True, capture_output=True, text=True
        ).stdout
        for old, new in RENAMED.items():
            if new in output:
                self.dropped.add(f"{new} -> {old}")
                output = output.replace(new, old)
        for kind in RULES:
            output = output.replace(f"{kind}.", "aws_security_group_rule.")
        for name, content in json.loads(output).items():
            self._file(content, version)
            # A list of checks in a variable, and messages, are as they were.
            (target / f"{name}.json").write_text(json.dumps(content, indent=1))
        for file in source.glob("*.json"):
            shutil.copy(file, target)  # What the configuration reads.

    def _file(self, content: dict, version: str) -> None:
        resources = content.get("resource", {})
        for kind, direction in RULES.items():
            for name, blocks in resources.pop(kind, {}).items():
                self.dropped.add(f"{kind} -> aws_security_group_rule")
                rules = resources.setdefault("aws_security_group_rule", {})
                rules[name] = [_as_rule(block, direction) for block in blocks]
        for kind, schemas in (("resource", "resource_schemas"), ("data", "data_source_schemas")):
            for type_name in list(content.get(kind, {})):
                if type_name == "terraform_data":
                    continue  # Of Terraform itself.
                known = self.schema[schemas].get(type_name)
                if known is None:
                    self.dropped.add(f"{kind} {type_name}")
                    del content[kind][type_name]
                    continue
                for blocks in content[kind][type_name].values():
                    for block in blocks:
                        self._strip(block, known["block"], type_name)
        for output in content.get("output", {}).values():
            for block in output:
                if "depends_on" in block:
                    block["depends_on"] = [ref for ref in _bare(block["depends_on"]) if self._known(ref)]
        for variable in content.get("variable", {}).values():
            for block in variable:
                if "type" in block:
                    block["type"] = _bare(block["type"])
        for terraform in content.get("terraform", []):
            for required in terraform.get("required_providers", []):
                if "aws" in required:
                    required["aws"]["version"] = version
        for kind in ("resource", "data"):
            if not content.get(kind, True):
                del content[kind]

    def _strip(self, block: dict, schema: dict, path: str) -> None:
        attributes, nested = schema.get("attributes", {}), schema.get("block_types", {})
        for name in list(block):
            if name == "lifecycle":
                for lifecycle in _list(block[name]):
                    for field in ("ignore_changes", "replace_triggered_by"):
                        if field in lifecycle:
                            lifecycle[field] = _bare(lifecycle[field])
            elif name == "depends_on":
                block[name] = [ref for ref in _bare(block[name]) if self._known(ref)]
            elif name == "dynamic":
                self._dynamic(block[name], nested, path)
                if not block[name]:
                    del block[name]
            elif name in META:
                continue
            elif name in nested:
                for inner in _list(block[name]):
                    self._strip(inner, nested[name]["block"], f"{path}.{name}")
            elif name not in attributes:
                self.dropped.add(f"{path}.{name}")
                del block[name]

    def _dynamic(self, dynamic: dict, nested: dict, path: str) -> None:
        for name in list(dynamic):
            if name not in nested:
                self.dropped.add(f"{path}.{name}")
                del dynamic[name]
                continue
            for block in dynamic[name]:
                for content in _list(block["content"]):
                    self._strip(content, nested[name]["block"], f"{path}.{name}")

    def _known(self, reference: str) -> bool:
        kind = reference.split(".")[0]
        return not kind.startswith("aws_") or kind in self.schema["resource_schemas"]


def _as_rule(block: dict, direction: str) -> dict:
    block.pop("tags", None)  # It had none.
    rule = {"type": direction}
    names = {"referenced_security_group_id": "source_security_group_id", "ip_protocol": "protocol"}
    lists = {"cidr_ipv4": "cidr_blocks", "cidr_ipv6": "ipv6_cidr_blocks", "prefix_list_id": "prefix_list_ids"}
    for name, value in block.items():
        if name in lists:
            expression = _bare(value) if value.startswith("${") else json.dumps(value)
            rule[lists[name]] = f"${{{expression} == null ? null : [{expression}]}}"
        else:
            rule[names.get(name, name)] = value
    return rule


def _bare(value):
    """References, which JSON would have as templates, as they are."""
    if isinstance(value, list):
        return [_bare(item) for item in value]
    return re.sub(r"^\$\{(.*)\}$", r"\1", value, flags=re.S) if isinstance(value, str) else value


def _list(value) -> list:
    return value if isinstance(value, list) else [value]
