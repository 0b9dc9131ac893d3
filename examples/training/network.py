"""A small network that reads handwritten digits, and how it is trained: in numpy, a step at a time.

A step depends on nothing but the weights before it and its number, so training that goes on from
step n ends with the same weights, bit by bit, as training that was never interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

DATA = Path(__file__).parents[1] / "digits" / "data" / "optdigits.csv"

# The first half is trained on, the second only tested on, as they are by different people.
TRAINED_ON = 900

HIDDEN = 64
BATCH = 32
RATE = 0.002
SEED = 1998

# Adam's decay rates, as its authors propose them (Kingma and Ba, 2015).
MEAN, SQUARE = 0.9, 0.999


class Training:
    """The weights after so many steps, and what the optimizer remembers."""

    def __init__(self, steps: int) -> None:
        self.step = 0
        self.steps = steps
        rows: Any = np.loadtxt(DATA, delimiter=",", dtype=np.int64)
        self._images: Array = rows[:, :64] / 16
        self._labels = rows[:, 64]
        random = np.random.default_rng(SEED)
        self.weights: list[Array] = [
            random.normal(0, (2 / 64) ** 0.5, (64, HIDDEN)),
            np.zeros(HIDDEN),
            random.normal(0, (2 / HIDDEN) ** 0.5, (HIDDEN, 10)),
            np.zeros(10),
        ]
        self.means = [np.zeros_like(weight) for weight in self.weights]
        self.squares = [np.zeros_like(weight) for weight in self.weights]

    def _answers(self, images: Array) -> tuple[Array, Array]:
        hidden = np.maximum(images @ self.weights[0] + self.weights[1], 0)
        return hidden, hidden @ self.weights[2] + self.weights[3]

    def take_step(self) -> None:
        """Trains on one batch."""
        random = np.random.default_rng((SEED, self.step))
        self.step += 1
        chosen = random.integers(TRAINED_ON, size=BATCH)
        images, labels = self._images[chosen], self._labels[chosen]
        # Pixels that are wrong now and then keep it from learning the images by heart.
        images = images + random.normal(0, 0.1, images.shape)
        hidden, answers = self._answers(images)
        likely = np.exp(answers - answers.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        likely[np.arange(BATCH), labels] -= 1
        wrong = likely / BATCH
        back = (wrong @ self.weights[2].T) * (hidden > 0)
        gradients = [images.T @ back, back.sum(axis=0), hidden.T @ wrong, wrong.sum(axis=0)]
        rate = RATE * (1 - self.step / (self.steps + 1))
        for weight, mean, square, gradient in zip(self.weights, self.means, self.squares, gradients):
            mean += (1 - MEAN) * (gradient - mean)
            square += (1 - SQUARE) * (gradient**2 - square)
            unbiased = mean / (1 - MEAN**self.step)
            weight -= rate * unbiased / (np.sqrt(square / (1 - SQUARE**self.step)) + 1e-8)

    def accuracy(self) -> float:
        """The share of the other half that it reads right."""
        _, answers = self._answers(self._images[TRAINED_ON:])
        return float((answers.argmax(axis=1) == self._labels[TRAINED_ON:]).mean())

    def save(self, path: Path) -> None:
        """Writes all of it, so that nobody ever reads half of it."""
        new = path.with_suffix(".new")
        with new.open("wb") as file:
            np.savez(file, step=np.array(self.step), **self._named())
        new.replace(path)

    def restore(self, path: Path) -> None:
        """Goes on from what was written there."""
        with np.load(path) as saved:
            self.step = int(saved["step"])
            for name, array in self._named().items():
                array[...] = saved[name]

    def _named(self) -> dict[str, Array]:
        parts = {"weights": self.weights, "means": self.means, "squares": self.squares}
        return {f"{name}{n}": array for name, arrays in parts.items() for n, array in enumerate(arrays)}
