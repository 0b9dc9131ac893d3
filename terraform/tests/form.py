"""What the text of the configuration has to look like, beyond its formatting."""

import pathlib
import re


def faults(root: pathlib.Path) -> list[str]:
    found = []
    everything = "\n".join(path.read_text() for path in root.rglob("*.tf"))
    for folder in sorted({path.parent for path in root.rglob("*.tf")}):
        text = "\n".join(path.read_text() for path in sorted(folder.glob("*.tf")))
        blocks = re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.M | re.S)
        rest = re.sub(r'^variable "\w+" \{\n.*?^\}', "", text, flags=re.M | re.S)
        for name, block in blocks:
            where = f"{folder.relative_to(root)}: variable {name}"
            # Terraform does not mind one that changes nothing.
            if not re.search(rf"\bvar\.{name}\b", rest):
                found.append(f"{where} is used nowhere")
            if "description" not in block:
                found.append(f"{where} has no description")
            if ("nullable" in block) == bool(re.search(r"^  default\s+= null$", block, re.M)):
                found.append(f"{where} is either nullable = false, or null by default")
        if folder.parent.name == "modules":
            for name in re.findall(r'^output "(\w+)"', text, re.M):
                if not re.search(rf"\bmodule\.{folder.name}(\[0\])?\.{name}\b", everything):
                    found.append(f"{folder.relative_to(root)}: output {name} is used nowhere")
        arguments = _arguments(text)
        for path in sorted(folder.glob("*.tf")):
            for source in re.findall(r'^  source\s+= "(\.[^"]+)"', path.read_text(), re.M):
                module = (folder / source).resolve()
                if module.parent.name == "modules":
                    found += [
                        f"{folder.relative_to(root)} leaves {name} of {source} at its default"
                        for name in _variables(module) - arguments.get(source, set())
                    ]
    return found + _differing_types(root)


# What one of more_services gives in place of what the first service has, and the worker is given.
SERVICE_PARTS = ("sidecars", "volumes", "container")


def _differing_types(root: pathlib.Path) -> list[str]:
    """Terraform has no names for types, so these stand three times; what one of them lacks is dropped."""
    of_pipeline, of_module = _types(root / "inference_pipeline"), _types(root / "modules" / "worker")
    more = of_pipeline["more_services"]
    found = []
    for name in SERVICE_PARTS:
        if of_module[name] != of_pipeline[name]:
            found.append(f"modules/worker and inference_pipeline differ in the type of {name}")
        if f"{name}=optional({of_pipeline[name]})" not in more:
            found.append(f"inference_pipeline: more_services has another type of {name} than the variable {name}")
    return found


def _types(folder: pathlib.Path) -> dict[str, str]:
    """The types of the variables, without what is between their words."""
    text = "\n".join(path.read_text() for path in sorted(folder.glob("variables*.tf")))
    found = re.findall(r'^variable "(\w+)" \{\n.*?^  type\s*= (.*?)\n(?=  \w|\}|\n)', text, re.M | re.S)
    return {name: re.sub(r"\s+", "", kind) for name, kind in found}


def unnamed_outputs(root: pathlib.Path, page: str) -> list[str]:
    """The outputs of the stacks that the page does not name."""
    return [
        f"{stack}.{name}"
        for stack in ("endpoints", "scaler", "inference_pipeline")
        for name in re.findall(r'^output "(\w+)"', (root / stack / "outputs.tf").read_text(), re.M)
        if f"`{name}`" not in page
    ]


def _variables(folder: pathlib.Path) -> set[str]:
    text = "\n".join(path.read_text() for path in folder.glob("*.tf"))
    return set(re.findall(r'^variable "(\w+)"', text, re.M))


def _arguments(text: str) -> dict[str, set[str]]:
    """What each module is given, by its source."""
    found = {}
    for block in re.findall(r'^module "\w+" \{\n(.*?)^\}', text, re.M | re.S):
        source = re.search(r'^  source\s+= "([^"]+)"', block, re.M).group(1)
        found[source] = set(re.findall(r"^  (\w+)\s+=", block, re.M))
    return found
