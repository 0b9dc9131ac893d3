"""A stock model server behind the queue, as in docs/containers.md."""

from __future__ import annotations

import json
import unittest
from typing import Any

import support
from support import Compose, until

PROMPT = '{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}'

LIMIT = ("--wait-timeout", "3m")


class Model(unittest.TestCase):
    stack: Compose

    @classmethod
    def setUpClass(cls) -> None:
        cls.stack = Compose("haulage-test-model", "compose.model.yaml", PROGRAM=support.program())
        cls.addClassCleanup(cls.stack.down)
        cls.stack("up", "--build", "--detach")

    def haulage(self, *arguments: str) -> str:
        return self.stack("exec", "-T", "worker", "haulage", *arguments)

    def check(self, answer: str) -> None:
        result: dict[str, Any] = json.loads(answer)
        self.assertEqual(result["object"], "chat.completion")
        self.assertGreater(result["usage"]["completion_tokens"], 0)

    def test_a_prompt_has_its_completion(self) -> None:
        self.check(self.haulage("submit", "--wait", *LIMIT, PROMPT))

    def test_a_prompt_waits_for_a_server_that_is_down(self) -> None:
        self.stack("stop", "--timeout", "5", "model")
        id_ = self.haulage("submit", PROMPT)
        until(lambda: "not ready" in self.stack.logs(), "the worker has noticed")
        self.stack("start", "model")
        self.haulage("wait", *LIMIT, id_)
        self.check(self.haulage("result", id_))
