"""Independent jobs, done by several threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait

Job = Callable[[], None]


def run_jobs(jobs: Iterable[Job], threads: int) -> None:
    """Do all jobs in up to `threads` threads. Raises the first error, when no job is running any more."""
    queue = deque(jobs)

    def work() -> None:
        while True:
            try:
                job = queue.popleft()
            except IndexError:
                return
            try:
                job()
            except BaseException:
                queue.clear()
                raise

    workers = min(threads, len(queue))
    if workers < 2:
        work()
        return
    with ThreadPoolExecutor(workers) as pool:
        done = [pool.submit(work) for _ in range(workers)]
        try:
            wait(done)
        except BaseException:  # an interrupt
            queue.clear()
            raise
    for future in done:
        future.result()
