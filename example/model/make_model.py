"""Makes a language model of random weights in the form of llama.cpp: ``make_model.py FILE``.

It has the shape of a Llama and speaks letters and bytes. What it says makes no sense; what it
takes to load and to ask it is the same as with a real one.
"""

from __future__ import annotations

import string
import sys

import gguf
import numpy as np

WIDTH, HEADS, LAYERS, INNER, CONTEXT = 64, 4, 2, 128, 512
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant: "
)

random = np.random.default_rng(0)
kind = gguf.TokenType
tokens = [("<unk>", kind.UNKNOWN), ("<s>", kind.CONTROL), ("</s>", kind.CONTROL)]
tokens += [(f"<0x{byte:02X}>", kind.BYTE) for byte in range(256)]
tokens += [(letter, kind.NORMAL) for letter in "\u2581" + string.ascii_letters]

model = gguf.GGUFWriter(sys.argv[1], "llama")
model.add_name("tiny")
model.add_vocab_size(len(tokens))
model.add_context_length(CONTEXT)
model.add_embedding_length(WIDTH)
model.add_block_count(LAYERS)
model.add_feed_forward_length(INNER)
model.add_head_count(HEADS)
model.add_head_count_kv(HEADS)
model.add_rope_dimension_count(WIDTH // HEADS)
model.add_layer_norm_rms_eps(1e-5)
model.add_tokenizer_model("llama")
model.add_token_list([text.encode() for text, _ in tokens])
model.add_token_types([kind for _, kind in tokens])
model.add_token_scores([0.0] * len(tokens))
model.add_unk_token_id(0)
model.add_bos_token_id(1)
model.add_eos_token_id(2)
model.add_chat_template(TEMPLATE)


def add(name: str, *shape: int) -> None:
    model.add_tensor(f"{name}.weight", (random.standard_normal(shape) * 0.2).astype(np.float32))


def add_norm(name: str) -> None:
    model.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))


add("token_embd", len(tokens), WIDTH)
for layer in range(LAYERS):
    add_norm(f"blk.{layer}.attn_norm")
    for name in ("q", "k", "v", "output"):
        add(f"blk.{layer}.attn_{name}", WIDTH, WIDTH)
    add_norm(f"blk.{layer}.ffn_norm")
    add(f"blk.{layer}.ffn_gate", INNER, WIDTH)
    add(f"blk.{layer}.ffn_up", INNER, WIDTH)
    add(f"blk.{layer}.ffn_down", WIDTH, INNER)
add_norm("output_norm")
add("output", len(tokens), WIDTH)

model.write_header_to_file()
model.write_kv_data_to_file()
model.write_tensors_to_file()
model.close()
