"""Creates the queue and the table where they are not there yet: ``haulage queue create``."""

from __future__ import annotations

import os

import settings

# A database is made when it is first used.
if settings.url().startswith("sqs:"):
    os.execvp("haulage", ["haulage", "--url", settings.url(), "queue", "create"])
