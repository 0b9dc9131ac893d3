"""A deployed pipeline, from end to end; docs/guides/e2e.md says how to run it.

What ``haulage e2e`` checks is a test each here; alarms and scaling, which only AWS knows of, come
on top. What is not there, or not allowed, fails or is skipped with its reason.
"""

from __future__ import annotations

import pytest
from conftest import Pipeline, Run, without_tasks

CHECKS = ["small", "large", "slow", "failing", "dead-letter", "duplicate", "cancelled", "stopped"]


@pytest.mark.parametrize("check", CHECKS)
def test_job(run: Run, check: str) -> None:
    found = run.checks.get(check)
    if found is None:
        pytest.fail(f"haulage e2e ended with code {run.code}: {run.error}", pytrace=False)
    if found["outcome"] == "left_out":
        pytest.skip(found["message"])
    if found["outcome"] != "passed":
        pytest.fail(found["message"], pytrace=False)


def test_jobs_are_deleted_again(run: Run) -> None:
    if run.code not in (0, 1) or "of this test" in run.error:
        pytest.fail(f"haulage e2e ended with code {run.code}: {run.error}", pytrace=False)


def test_alarms_exist(pipeline: Pipeline) -> None:
    if missing := pipeline.missing_alarms_or_skip():
        pytest.fail(f"alarms that are not there: {', '.join(sorted(missing))}", pytrace=False)


def test_service_scales_out_from_zero(pipeline: Pipeline, run: Run) -> None:
    pipeline.service_or_skip()
    if run.not_from_zero:
        pytest.skip(run.not_from_zero)
    assert run.tasks_before == 0
    if run.most_tasks == 0:
        pytest.fail("no task was seen while the jobs were there", pytrace=False)


def test_service_scales_back_to_zero(pipeline: Pipeline, run: Run, request: pytest.FixtureRequest) -> None:
    pipeline.service_or_skip()
    if run.not_from_zero:
        pytest.skip(run.not_from_zero)
    if run.most_tasks == 0:
        pytest.skip("it did not scale out")
    seconds = request.config.getoption("scale_timeout")
    if not without_tasks(pipeline, seconds):
        pytest.fail(f"{seconds:.0f} s after the jobs, the service still has tasks", pytrace=False)
