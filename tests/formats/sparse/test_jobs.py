"""Jobs of several threads, and the errors in them."""

import time
from functools import partial

import pytest

from gpmt.errors import CheckpointError
from gpmt.formats.sparse.jobs import run_jobs


def test_after_an_error_no_further_job_is_begun():
    begun = []

    def fail():
        raise CheckpointError("the first")

    def wait(job):
        begun.append(job)
        time.sleep(0.1)

    with pytest.raises(CheckpointError, match="the first"):
        run_jobs([fail, *(partial(wait, job) for job in range(20))], 2)
    assert len(begun) <= 2


def test_an_error_in_a_job_is_not_lost():
    def job():
        raise IndexError("of its own")

    for threads in (1, 2):
        with pytest.raises(IndexError, match="of its own"):
            run_jobs([job] * 5, threads)
