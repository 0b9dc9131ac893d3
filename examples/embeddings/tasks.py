"""What the worker runs: `haulage worker --python tasks:embed --gpus all`."""

from __future__ import annotations

import haulage

from minilm import MiniLM

# Once a process, before the first job.
model = MiniLM()


def words(sentence: str) -> int:
    """How many words a sentence has, which is what it costs to embed it, more or less."""
    return len(sentence.split())


@haulage.worker(max_batch_size=32, batch_timeout=0.05, batch_weight=words, max_batch_weight=256)
def embed(sentences: list[str]) -> list[list[float]]:
    """The vectors of a batch: up to 32 sentences, of 256 words in all."""
    return model.encode(sentences).tolist()  # type: ignore[no-any-return]
