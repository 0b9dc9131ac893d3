"""Packs a folder as a .tar.gz, the same bytes each time: `pack.py FOLDER ARCHIVE`."""

import gzip
import sys
import tarfile
from pathlib import Path


def packed(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without what this machine and this moment would add."""
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def main(folder: Path, archive: Path) -> None:
    with (
        archive.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for path in [folder, *sorted(folder.iterdir())]:
            tar.add(path, path.relative_to(folder.parent).as_posix(), recursive=False, filter=packed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
