"""What the workers run: `haulage worker --python tasks:embed`."""

from __future__ import annotations

import haulage

from minilm import MiniLM

# Once a process, before the first job.
model = MiniLM()


@haulage.worker(max_batch_size=16, batch_timeout=0.05)
def embed(sentences: list[str]) -> list[list[float]]:
    """The vectors of up to 16 sentences at once."""
    return model.encode(sentences).tolist()  # type: ignore[no-any-return]
