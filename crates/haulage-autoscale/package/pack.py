"""Packs one program for Lambda, so that the same program makes the same zip.

With another version of zlib it may be other bytes, of the same program.
"""

import pathlib
import sys
import zipfile

# What it grows to unnoticed, if a dependency brings too much. A larger one
# starts more slowly.
LIMIT_MB = 4

program, package = map(pathlib.Path, sys.argv[1:])
# The earliest time that a zip can hold.
entry = zipfile.ZipInfo(program.name, date_time=(1980, 1, 1, 0, 0, 0))
entry.create_system = 3  # Unix, which has permissions, whatever runs this
entry.external_attr = 0o100755 << 16
entry.compress_type = zipfile.ZIP_DEFLATED
with zipfile.ZipFile(package, "w") as archive:
    archive.writestr(entry, program.read_bytes(), compresslevel=9)
size = package.stat().st_size / 1e6
print(f"{package}: {size:.2f} MB")
if size > LIMIT_MB:
    sys.exit(f"pack.py: that is more than {LIMIT_MB} MB; `cargo tree --package haulage-autoscale --features lambda` "
             "shows what it is made of")
