"""Writes bills of materials, in CycloneDX: `sbom.py wheel FOLDER FILE`, `sbom.py lambda FILE TARGET…`.

That of the wheel is what maturin has put into it. It names every crate of the wheel, and the program has
no other. That of the scaling Lambda is made here, of what cargo says.
"""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import licenses


def of_the_wheel(folder: Path) -> dict[str, Any]:
    wheel = sorted(folder.glob("*.whl"))[0]
    with zipfile.ZipFile(wheel) as members:
        (name,) = (name for name in members.namelist() if name.endswith(".cyclonedx.json"))
        bom: dict[str, Any] = json.loads(members.read(name))
        return bom


def of_the_lambda(targets: list[str]) -> dict[str, Any]:
    components = [component(package) for package in licenses.linked("lambda", targets)]
    (itself,) = (one for one in components if one["name"] == licenses.PACKAGES["lambda"][0])
    components.remove(itself)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**itself, "type": "application"}},
        "components": components,
    }


def component(package: dict[str, Any]) -> dict[str, Any]:
    purl = f"pkg:cargo/{package['name']}@{package['version']}"
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": package["name"],
        "version": package["version"],
        "purl": purl,
    }
    if package["license"]:
        # Old crates write a slash, which is not SPDX.
        found["licenses"] = [{"expression": " OR ".join(map(str.strip, package["license"].split("/")))}]
    return found


def main(what: str, *words: str) -> None:
    if what == "wheel":
        folder, file = map(Path, words)
        bom = of_the_wheel(folder)
    else:
        file, bom = Path(words[0]), of_the_lambda(list(words[1:]))
    file.write_text(json.dumps(bom, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
