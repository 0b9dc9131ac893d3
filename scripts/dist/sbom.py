"""Takes the SBOM that maturin has put into a wheel: `sbom.py FOLDER FILE`.

It is CycloneDX, and names every crate of the wheel. The program has no other: the wheel has all of it.
"""

import json
import sys
import zipfile
from pathlib import Path


def main(folder: Path, file: Path) -> None:
    wheel = sorted(folder.glob("*.whl"))[0]
    with zipfile.ZipFile(wheel) as members:
        (name,) = (name for name in members.namelist() if name.endswith(".cyclonedx.json"))
        bom = json.loads(members.read(name))
    file.write_text(json.dumps(bom, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
