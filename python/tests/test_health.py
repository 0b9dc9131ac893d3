"""Which slot is at fault: decided by what became of jobs, without processes."""

from __future__ import annotations

import random

import pytest
from haulage._health import Health, Verdict, names_device

OUT = Verdict.QUARANTINE


def gpus(count: int, slots_each: int = 1) -> Health:
    devices: list[str | None] = [str(number) for number in range(count)]
    return Health(devices * slots_each)


def test_a_slot_that_breaks_twice_is_out_until_it_has_worked() -> None:
    health = gpus(2)
    health.succeeded(1)
    assert health.broke(0) is Verdict.REPLACE
    health.succeeded(0)
    assert health.broke(0) is Verdict.REPLACE
    assert health.broke(0) is OUT
    assert health.wait(0) == 1.0
    health.back(0)
    # On trial: one failure that the others do not have is enough.
    assert health.failed(0, "ValueError: no") is OUT
    assert health.wait(0) == 2.0
    health.back(0)
    # Nor is its process replaced first.
    assert health.broke(0) is OUT
    health.back(0)
    health.succeeded(0)
    assert health.broke(0) is Verdict.REPLACE


@pytest.mark.parametrize(
    ("error", "of_the_device"),
    [
        ("RuntimeError: CUDA error: an illegal memory access was encountered\n\nTraceback", True),
        ("torch.AcceleratorError: HIP error: invalid device function", True),
        ("RuntimeError: CUBLAS_STATUS_EXECUTION_FAILED when calling", True),
        ("RuntimeError: CUDNN_STATUS_NOT_SUPPORTED", False),
        ("ValueError: no\n\n  raise CUDA error", False),
    ],
)
def test_what_names_the_device_is_in_the_first_lines(error: str, of_the_device: bool) -> None:
    assert names_device(error) is of_the_device


def test_plain_processes_do_not_differ() -> None:
    health = Health([None, None])
    health.succeeded(1)
    for error in ("OSError: no", "OutOfMemoryError: CUDA out of memory"):
        assert all(health.failed(0, error) is Verdict.GO_ON for _ in range(9))
    assert health.broke(0) is Verdict.REPLACE


def test_only_a_second_time_in_a_row_is_a_want_of_memory_the_fault_of_the_device() -> None:
    memory = "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB"
    health = gpus(2)
    assert health.failed(0, memory) is Verdict.GO_ON
    health.succeeded(0)
    assert health.failed(0, memory) is Verdict.GO_ON
    assert health.failed(0, memory) is Verdict.REPLACE


@pytest.mark.parametrize("have_worked", [True, False])
def test_devices_that_fail_alone_are_out_at_the_third_job(have_worked: bool) -> None:
    health = gpus(8, slots_each=2)
    for number in range(16):
        if have_worked and number % 8 < 6:
            health.succeeded(number)
    # Two of the eight, each with two slots, one after the other as they come.
    verdicts = [health.failed(number, "OSError: no") for number in (6, 14, 6, 14, 6, 14)]
    assert verdicts == [Verdict.GO_ON] * 4 + [OUT] * 2
    if have_worked:
        verdicts = [health.failed(number, "OSError: no") for number in (7, 15, 7, 15, 7, 15)]
        assert verdicts == [Verdict.GO_ON] * 4 + [OUT] * 2


def test_devices_that_fail_at_the_same_time_do_not_excuse_each_other() -> None:
    health = gpus(8)
    for number in range(6):
        health.succeeded(number)
    verdicts = [health.failed(number, "OSError: no") for number in (6, 7, 6, 7, 6, 7)]
    assert verdicts == [Verdict.GO_ON] * 4 + [OUT] * 2


def test_a_trial_that_fails_as_others_do_is_over() -> None:
    health = gpus(2)
    assert [health.failed(0, "OSError: no") for _ in range(3)][-1] is OUT
    health.back(0)
    health.failed(1, "OSError: no")
    assert health.failed(0, "OSError: no") is Verdict.GO_ON
    health.succeeded(1)
    assert health.failed(0, "OSError: no") is Verdict.GO_ON, "it is the second of three"


def test_what_fails_everywhere_is_no_slots_fault() -> None:
    health = gpus(4)
    # It is the first, and the fastest: nobody knows yet, and a trial shows it.
    assert [health.failed(0, "KeyError: 'x'") for _ in range(3)][-1] is OUT
    assert health.failed(1, "KeyError: 'x'") is Verdict.GO_ON
    health.back(0)
    for _ in range(20):
        for number in range(4):
            assert health.failed(number, "KeyError: 'x'") is Verdict.GO_ON
    assert not health.all_out


def test_jobs_that_fail_now_and_then_cost_few_slots_a_second() -> None:
    draw = random.Random(1)
    health = gpus(8)
    out = 0
    for _ in range(20_000):
        number = draw.randrange(8)
        if draw.random() >= 0.05:
            health.succeeded(number)
        elif health.failed(number, "ValueError: this input") is OUT:
            out += 1
            health.back(number)
    # Three in a row at one slot by chance: once in 8,000 outcomes.
    assert out < 10


def test_a_single_device_is_never_suspected() -> None:
    health = gpus(1, slots_each=2)
    assert all(health.failed(0, "OSError: no") is Verdict.GO_ON for _ in range(9))


def test_a_job_that_broke_another_slot_is_known_and_old_ones_are_forgotten() -> None:
    health = gpus(2)
    health.remember("a", 0)
    assert not health.is_breaker("a", 0), "the slot may be at fault"
    assert health.is_breaker("a", 1)
    for number in range(1000):
        health.remember(str(number), 0)
    assert not health.is_breaker("a", 1)


def test_waits_have_a_longest() -> None:
    health = gpus(1)
    for _ in range(2000):
        health.still_out(0)
    assert health.all_out
    assert health.wait(0) == 300.0
    health.back(0)
    assert not health.all_out
