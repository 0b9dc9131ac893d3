"""Creates the queue and the table where they are not there yet: ``haulage queue create``."""

from __future__ import annotations

import os
import sys

import settings

# A database is made when it is first used.
if settings.url().startswith("sqs:"):
    # Also where this interpreter's programs are not on the PATH.
    command = [sys.executable, "-m", "haulage", "--url", settings.url(), "queue", "create"]
    os.execv(command[0], command)
