"""The schema of the current AWS provider, from the definitions that a
package for another language was generated from.

Only the names, kinds and nesting of arguments are in it: what a misspelt,
missing or removed argument runs into. Values are not checked.
"""

import pathlib
import re

SCALARS = {"string": "string", "number": "number", "boolean": "bool"}
# How deep blocks are followed; some contain themselves.
DEEPEST = 12


def types_in(root: pathlib.Path) -> tuple[set[str], set[str]]:
    """The types of resources and of data sources that the files in `root` use."""
    text = "\n".join(path.read_text() for path in root.rglob("*.tf"))
    # terraform_data is Terraform's own.
    return set(re.findall(r'^resource "(aws_\w+)"', text, re.M)), set(re.findall(r'^data "(aws_\w+)"', text, re.M))


def build(library: pathlib.Path, resources: set[str], data_sources: set[str]) -> dict:
    """The schema of these types, in the form of `terraform providers schema`."""
    schema = {"provider": {"version": 0, "block": _provider(library)}}
    schema["resource_schemas"] = {name: _type(library, name, "") for name in sorted(resources)}
    schema["data_source_schemas"] = {name: _type(library, name, "data-") for name in sorted(data_sources)}
    return schema


def _type(library: pathlib.Path, name: str, prefix: str) -> dict:
    folder = name.replace("_", "-")
    folder = prefix + folder if prefix else folder.removeprefix("aws-")
    definitions, program = _files(library / folder)
    pattern = r"export declare class (\w+) extends cdktn\.Terraform(?:Resource|DataSource) \{(.*?)\n\}"
    match = re.search(pattern, definitions, re.S)
    block = _Blocks(definitions, program).block(match.group(1) + "Config")
    # What the provider tells and nobody may set is in the class only.
    body = program[program.index(f"class {match.group(1)} extends"):]
    for attribute in re.findall(r"// (\w+) - computed: true, optional: false, required: false", body):
        if attribute not in block["block_types"]:
            getter = re.search(rf"get {_camel(attribute)}\(\): ([\w.\[\]]+);", match.group(2))
            kind = getter.group(1) if getter else ""
            kind = ["list", "string"] if kind == "string[]" else SCALARS.get(kind, "dynamic")
            block["attributes"].setdefault(attribute, {"type": kind, "computed": True})
    block["attributes"].setdefault("id", {"type": "string", "optional": True, "computed": True})
    return {"version": 0, "block": block}


def _provider(library: pathlib.Path) -> dict:
    block = _Blocks(*_files(library / "provider")).block("AwsProviderConfig")
    block["attributes"].pop("alias", None)

    def settable(inner: dict) -> dict:
        for attribute in inner["attributes"].values():
            attribute.pop("computed", None)
        for nested in inner["block_types"].values():
            settable(nested["block"])
        return inner

    return settable(block)


def _files(folder: pathlib.Path) -> tuple[str, str]:
    if not folder.is_dir():
        raise SystemExit(f"the current provider has nothing like {folder.name}; is it misspelt?")
    program = (folder / "index.js").read_text().split("//# sourceMapping")[0]
    return (folder / "index.d.ts").read_text(), program


class _Blocks:
    """Reads the interfaces of one file of definitions."""

    def __init__(self, definitions: str, program: str):
        self.interfaces = _interfaces(definitions)
        named = lambda is_block: set(
            re.findall(rf'(\w+): \{{\s*value: [^\n]*\n\s*isBlock: {is_block},\s*type: "set"', program)
        )
        self.set_blocks, self.set_attributes = named("true"), named("false")

    def block(self, interface: str, depth: int = 0) -> dict:
        block = {"attributes": {}, "block_types": {}}
        for name, optional, kind in self.interfaces.get(interface, []):
            kind = kind.replace("| cdktn.IResolvable", "").strip()
            inner = kind.removesuffix("[]")
            if inner in self.interfaces and depth < DEEPEST:
                single = name == "timeouts"
                block["block_types"][name] = {
                    "nesting_mode": "single" if single else "set" if name in self.set_blocks else "list",
                    "min_items": 0 if optional else 1,
                    "max_items": 0 if single or kind.endswith("[]") else 1,
                    "block": self.block(inner, depth + 1),
                }
            else:
                wire = self._attribute(name, kind)
                how = {"optional": True, "computed": True} if optional else {"required": True}
                block["attributes"][name] = {"type": wire, **how}
        return block

    def _attribute(self, name: str, kind: str):
        if kind in SCALARS:
            return SCALARS[kind]
        if kind.endswith("[]") and kind[:-2] in SCALARS:
            return ["set" if name in self.set_attributes else "list", SCALARS[kind[:-2]]]
        mapped = re.match(r"\{\s*\[key: string\]: ([^;]*);?\s*\}$", kind)
        if mapped:
            value = mapped.group(1).strip("() ").split("|")[0].strip()
            return ["map", SCALARS.get(value, "string")]
        return "dynamic"


def _interfaces(definitions: str) -> dict[str, list[tuple[str, bool, str]]]:
    """Each interface's fields: Terraform's name, whether optional, the type."""
    found = {}
    for name, body in re.findall(r"^export interface (\w+)[^\n]*\{\n(.*?)^\}", definitions, re.S | re.M):
        fields = []
        pattern = r"(/\*\*.*?\*/)?\s*readonly (\w+)(\??): (\{.*?\n    \}|[^\n]*?);"
        for comment, field, optional, kind in re.findall(pattern, body, re.S):
            link = re.search(r"\{@link \S+#(\w+) ", comment)
            fields.append((link.group(1) if link else _snake(field), bool(optional), " ".join(kind.split())))
        found[name] = fields
    return found


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda match: "_" + match.group(1).lower(), name)


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda match: match.group(1).upper(), name)
