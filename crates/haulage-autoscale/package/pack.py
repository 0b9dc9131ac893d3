"""Packs a program for Lambda with what lies beside it: `pack.py ZIP PROGRAM FILE…`.

The same files make the same zip. With another version of zlib it may be other bytes, of the same files.
"""

import pathlib
import sys
import zipfile

# What it grows to unnoticed, if a dependency brings too much. A larger one
# starts more slowly.
LIMIT_MB = 4

package, program, *beside = map(pathlib.Path, sys.argv[1:])
with zipfile.ZipFile(package, "w") as archive:
    for path in [program, *beside]:
        # The earliest time that a zip can hold.
        entry = zipfile.ZipInfo(path.name, date_time=(1980, 1, 1, 0, 0, 0))
        entry.create_system = 3  # Unix, which has permissions, whatever runs this
        entry.external_attr = (0o100755 if path == program else 0o100644) << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, path.read_bytes(), compresslevel=9)
size = package.stat().st_size / 1e6
print(f"{package}: {size:.2f} MB")
if size > LIMIT_MB:
    sys.exit(f"pack.py: that is more than {LIMIT_MB} MB; `cargo tree --package haulage-autoscale --features lambda` "
             "shows what it is made of")
