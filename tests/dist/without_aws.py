"""Tells how large a program without AWS is: `without_aws.py PROGRAM`. Fails above the limit."""

from __future__ import annotations

import sys
from pathlib import Path

MEGABYTE = 1_000_000
# With the server in it: 3 MB more than without one.
MOST = 11 * MEGABYTE

size = Path(sys.argv[1]).stat().st_size
print(f"the program without AWS has {size / MEGABYTE:.2f} MB; {MOST / MEGABYTE:.0f} MB are the most")
if size >= MOST:
    sys.exit("it is too large; docs/contributing/releasing.md tells what makes it small")
