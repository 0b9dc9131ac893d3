"""Tells how large a program without AWS is, and what it says of AWS: `without_aws.py PROGRAM`.

Fails above the limit.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MEGABYTE = 1_000_000
# With the server in it: 3 MB more than without one.
MOST = 11 * MEGABYTE

size = Path(sys.argv[1]).stat().st_size
print(f"the program without AWS has {size / MEGABYTE:.2f} MB; {MOST / MEGABYTE:.0f} MB are the most")
if size >= MOST:
    sys.exit("it is too large; docs/contributing/releasing.md tells what makes it small")
for arguments in ["stats"], ["submit", "1"], ["queue", "describe"]:
    done = subprocess.run(
        [sys.argv[1], "--url", "sqs://jobs.fifo", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 2 or "this program is built without AWS" not in done.stderr:
        sys.exit(f"of {arguments} on AWS it says {done.stderr!r}, and ends with {done.returncode}")
