"""Which slot is at fault: decided by what became of jobs, without processes."""

from __future__ import annotations

import random

from haulage._health import Health, Verdict

CUDA = "RuntimeError: CUDA error: an illegal memory access was encountered\n\nTraceback …"


def test_a_slot_that_breaks_twice_is_out_until_it_has_worked() -> None:
    health = Health(2, devices=True)
    assert health.broke(0) is Verdict.REPLACE
    health.succeeded(0)
    assert health.failed(0, CUDA) is Verdict.REPLACE
    assert health.failed(0, CUDA) is Verdict.QUARANTINE
    assert health.wait(0) == 1.0
    health.back(0)
    # On trial: one failure is enough, of whatever kind.
    assert health.failed(0, "ValueError: no") is Verdict.QUARANTINE
    assert health.wait(0) == 2.0
    health.back(0)
    health.succeeded(0)
    assert health.broke(0) is Verdict.REPLACE


def test_words_in_a_traceback_and_on_plain_processes_say_nothing() -> None:
    health = Health(2, devices=True)
    for _ in range(2):
        assert health.failed(0, "ValueError: no\n\n  raise CUDA error") is Verdict.GO_ON
    plain = Health(2, devices=False)
    for _ in range(9):
        assert plain.failed(0, CUDA) is Verdict.GO_ON


def test_only_a_second_time_in_a_row_is_a_want_of_memory_the_fault_of_the_device() -> None:
    memory = "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB"
    health = Health(2, devices=True)
    assert health.failed(0, memory) is Verdict.GO_ON
    health.succeeded(0)
    assert health.failed(0, memory) is Verdict.GO_ON
    assert health.failed(0, memory) is Verdict.REPLACE


def test_a_slot_that_fails_alone_is_out_at_the_third_job() -> None:
    health = Health(8, devices=True)
    for number in range(1, 8):
        health.succeeded(number)
    assert [health.failed(0, "OSError: no") for _ in range(3)] == [
        Verdict.GO_ON,
        Verdict.GO_ON,
        Verdict.QUARANTINE,
    ]
    health.succeeded(1)
    assert health.acquitted() == [], "others work"


def test_what_fails_everywhere_is_no_slots_fault() -> None:
    health = Health(4, devices=True)
    # It is the first, and the fastest: nobody knows yet.
    assert [health.failed(0, "KeyError: 'x'") for _ in range(3)][-1] is Verdict.QUARANTINE
    assert health.acquitted() == []
    assert health.failed(1, "KeyError: 'x'") is Verdict.GO_ON
    assert health.acquitted() == [0], "the job fails elsewhere, too"
    for _ in range(20):
        for number in range(4):
            assert health.failed(number, "KeyError: 'x'") is Verdict.GO_ON


def test_jobs_that_fail_now_and_then_cost_no_slot() -> None:
    draw = random.Random(1)
    health = Health(8, devices=True)
    out = 0
    for _ in range(20_000):
        number = draw.randrange(8)
        if draw.random() < 0.05:
            verdict = health.failed(number, "ValueError: this input")
            out += verdict is Verdict.QUARANTINE
            if verdict is Verdict.QUARANTINE:
                health.back(number)
        else:
            health.succeeded(number)
    # Three in a row at one slot by chance: once in 8,000 outcomes.
    assert out < 10


def test_the_last_slot_in_service_is_not_suspected() -> None:
    health = Health(1, devices=True)
    assert all(health.failed(0, "OSError: no") is Verdict.GO_ON for _ in range(9))


def test_a_job_that_broke_a_slot_is_known_and_old_ones_are_forgotten() -> None:
    health = Health(2, devices=True)
    assert not health.is_breaker("a")
    assert health.is_breaker("a")
    for number in range(1000):
        health.is_breaker(str(number))
    assert not health.is_breaker("a")
