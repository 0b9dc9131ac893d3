"""Serves a model by OpenAI's API, on port 8000: ``serve.py MODEL``."""

from __future__ import annotations

import signal
import sys

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.hostnames = ["0.0.0.0"]
parameters.port = 8000
parameters.n_parallel = 4
parameters.n_ctx = 4 * 512
# Before its threads are there, so that the signal waits for the line below.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
server = xllamacpp.Server(parameters)
print("serving at", server.listening_address, flush=True)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
