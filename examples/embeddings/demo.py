"""Submits sentences, has each GPU embed some of them, and answers questions from the results.

`make demo-python` runs it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import haulage
import numpy as np

from sentences import sentences

HERE = Path(__file__).parent
QUESTIONS = (
    "delete a folder and everything in it",
    "the middle value of a list of numbers",
    "run a command and get what it prints",
)


# One thread of arithmetic each, in the slots and in the loop: for matrices of this size, more
# threads only wait for each other.
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}


def gpus() -> str:
    """All GPUs; where there is no driver, two made-up ones, as this model needs none."""
    return "all" if shutil.which("nvidia-smi") or shutil.which("rocm-smi") else "0,1"


def worker(url: str) -> subprocess.Popen[bytes]:
    """A worker as one starts it in a shell, with a process for each GPU, which sees no other."""
    words = ["worker", "--url", url, "--python", "tasks:embed", "--gpus", gpus()]
    environment = {**ENVIRONMENT, "HAULAGE_LOG": "warn"}
    return subprocess.Popen([sys.executable, "-m", "haulage", *words], cwd=HERE, env=environment)


def plain_loop(texts: list[str]) -> float:
    """Seconds for one sentence after the other, without a queue."""
    code = (
        "import json, sys, time\nfrom minilm import MiniLM\nmodel = MiniLM()\nmodel.encode(['warm'])\n"
        "began = time.perf_counter()\nfor text in json.load(sys.stdin):\n    model.encode([text])\n"
        "print(time.perf_counter() - began)"
    )
    output = subprocess.check_output(
        [sys.executable, "-c", code], input=json.dumps(texts).encode(), cwd=HERE, env=ENVIRONMENT
    )
    return float(output)


def main() -> None:
    """The demo."""
    known = sentences()
    names, texts = list(known), list(known.values())
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = f"sqlite://{folder}/embeddings.db"
        client = haulage.connect(url)
        process = worker(url)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        # The model is loaded when a sentence has its vector.
        warm = client.submit("warm")
        while True:
            try:
                warm.result(timeout=1)
                break
            except haulage.WaitTimeoutError:
                if process.poll() is not None:
                    sys.exit(f"the worker ended with code {process.returncode}")
        began = time.perf_counter()
        vectors = np.array(list(client.map(texts, progress=True)), np.float32)
        took = time.perf_counter() - began
        slots = sorted({record.slot or "?" for record in client.records(limit=len(texts))})
        answers = np.array(list(client.map(QUESTIONS)), np.float32)
    plain = plain_loop(texts)
    print(f"sentences   {len(texts)} from the documentation of Python {sys.version.split()[0]}")
    print(f"slots       {len(slots)}, each in a process of its own: {'; '.join(slots)}")
    print("batches     of up to 256 words, 32 sentences at most")
    print(f"queue       {took:.1f} s, {len(texts) / took:.0f} a second")
    print(f"plain loop  {plain:.1f} s, {len(texts) / plain:.0f} a second")
    print(f"            the queue took {took / plain:.0%} of the loop's time")
    for question, answer in zip(QUESTIONS, answers):
        best = np.argsort(vectors @ answer)[::-1][:2]
        print(f"\n{question}?")
        for place in best:
            print(f"  {names[place]:<26} {texts[place]}")


if __name__ == "__main__":
    main()
