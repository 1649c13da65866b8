"""Accuracy of training methods on a GPU, at one budget, in less than eight minutes: ResNet-20 on CIFAR-10.

    python benchmarks/gpu_accuracy.py WORK --data FOLDER                    # on the first GPU, four runs side by side
    python benchmarks/gpu_accuracy.py WORK --data FOLDER --checkpoint FILE  # from weights in circulation
    python benchmarks/gpu_accuracy.py WORK --data FOLDER --seconds 3000 --seeds 0 1 2 --epochs 30
    python benchmarks/gpu_accuracy.py WORK --data FOLDER --device cpu --jobs 1 --epochs 1 --dense-epochs 1 \\
        --train-limit 512 --test-limit 256 --only GP gradual                # on a CPU, to test it

FOLDER holds CIFAR-10 as the recipes read it. One dense network is trained first. From it every method prunes to every
sparsity, with the same epochs, learning rate and batches; the accuracy after the last epoch counts, and every network
is verified: exact totals, floors, and zeros that stayed. The images lie on the device, and are augmented there.

WORK keeps the dense network and a line for each result, so that a second call goes on where the first was stopped.
No run starts that would end too late; what was not run is listed, with the reason. Runs of one seed are done before
those of the next. It needs PyTorch, Pillow and what gpmt itself needs, but no installation of gpmt and no network.
The exit code is 1 if a run failed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

import torch  # noqa: E402

from gpmt.errors import GpmtError  # noqa: E402
from gpu_accuracy_runs import CASES, Job, Settings, available, prepare, prepare_process, prune, train_dense  # noqa: E402

Work = Callable[..., dict[str, Any]]
Run = Callable[..., Future[dict[str, Any]]]

SECONDS = 440.0
"""No run starts that would end later."""


def failure(error: BaseException) -> dict[str, Any]:
    first = str(error).strip().splitlines()[:1]
    trace = "" if isinstance(error, GpmtError) else "".join(traceback.format_exception(error))
    return {"status": "FAILED", "detail": f"{type(error).__name__}: {''.join(first)}", "trace": trace}


def attempt(work: Work, *arguments: Any) -> dict[str, Any]:
    """Return the result of a run, or its error."""
    try:
        return {"status": "ok", **work(*arguments)}
    except Exception as error:
        return failure(error)


class InThisProcess:
    """Runs what it is given at once."""

    def __call__(self, work: Work, *arguments: Any) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        future.set_result(attempt(work, *arguments))
        return future


@contextmanager
def workers(count: int) -> Iterator[Run]:
    """Yield what runs a function in one of so many processes; a single one is this process."""
    if count == 1:
        prepare()
        yield InThisProcess()
        return
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=prepare_process) as pool:
        yield lambda work, *arguments: pool.submit(attempt, work, *arguments)


def run_all(
    jobs: list[Job], settings: Settings, dense: Path, run: Run, count: int, end: float
) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Yield each job with its result, as they come; jobs for which the time does not suffice are not run."""
    longest, queue = 0.0, list(jobs)
    running: dict[Future[dict[str, Any]], tuple[Job, float]] = {}
    while queue or running:
        while queue and len(running) < count:
            job, now = queue.pop(0), time.monotonic()
            if now + longest > end:
                yield job, {"status": "not run", "detail": "the time is over"}
            else:
                running[run(prune, job, settings, dense)] = job, now
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            job, start = running.pop(future)
            longest = max(longest, time.monotonic() - start)
            error = future.exception()
            yield job, failure(error) if error else future.result()


def described(found: dict[str, Any]) -> str:
    """Return what came of a run, on one line, with the trace of an unexpected error after it."""
    if found["status"] != "ok":
        return "\n".join(filter(None, (found["detail"], found.get("trace"))))
    dead = f", {found['dead']} dead layers" if found.get("dead") else ""
    return f"{found['top1']:.2f} %, {found['seconds']:.0f} s{dead}"


def spread(values: list[float]) -> str:
    if not values:
        return "-"
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def show(rows: list[dict[str, Any]], sparsities: list[float], cases: list[str]) -> None:
    """Print top-1 in percent, mean and sample standard deviation over the seeds."""
    columns = "".join(f"{sparsity:>18.1%}" for sparsity in sparsities)
    print(f"\n{'top-1 %':14}{columns}{'seeds':>7}{'ms a step':>11}")
    for case in cases:
        own = [row for row in rows if row["case"] == case and row["status"] == "ok"]
        found = [[row["top1"] for row in own if row["sparsity"] == sparsity] for sparsity in sparsities]
        if own:
            step = statistics.median(row["step_ms"] for row in own)
            seeds = len({row["seed"] for row in own})
            print(f"{case:14}" + "".join(f"{spread(each):>18}" for each in found) + f"{seeds:7}{step:11.1f}")


def read_rows(log: Path, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the results of earlier calls with the same settings; what failed is run again."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]  # the last may be cut off
    return [row for row in rows if row.pop("settings") == about and row["status"] == "ok"]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder of the dense network and the results")
    parser.add_argument("--data", type=Path, required=True, help="folder of CIFAR-10")
    parser.add_argument("--checkpoint", type=Path, help="weights from which the dense training starts")
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.95, 0.98])
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epochs", type=int, default=6, help="of every method")
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--dense-epochs", type=int, help="by default 15, and 6 from a checkpoint")
    parser.add_argument("--dense-lr", type=float, help="by default 0.1, and 0.02 from a checkpoint")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--train-limit", type=int, help="training images; by default all")
    parser.add_argument("--test-limit", type=int, help="test images; by default all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--jobs", type=int, default=4, help="runs side by side, each a process")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="start nothing that would end later")
    parser.add_argument("--json", type=Path, help="file for the results; by default WORK/results.json")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    begin = time.monotonic()
    options = parse(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("PyTorch finds no GPU here, so nothing is run; --device cpu runs a small version on a CPU")
        return 0
    start = options.checkpoint is not None
    settings = Settings(
        data=str(options.data.resolve()),
        device=options.device,
        checkpoint=str(options.checkpoint.resolve()) if start else None,
        dense_epochs=(6 if start else 15) if options.dense_epochs is None else options.dense_epochs,
        dense_lr=(0.02 if start else 0.1) if options.dense_lr is None else options.dense_lr,
        epochs=options.epochs,
        lr=options.lr,
        batch_size=options.batch_size,
        train_limit=options.train_limit,
        test_limit=options.test_limit,
    )
    machine = {
        "gpu": torch.cuda.get_device_name() if options.device == "cuda" else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "jobs": options.jobs,
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items() if value is not None))
    about = asdict(settings)
    options.work.mkdir(parents=True, exist_ok=True)
    log, dense = options.work / "results.jsonl", options.work / "dense.pt"
    rows = read_rows(log, about)
    cases = [name for name in CASES if not options.only or name in options.only]
    jobs = [Job(*job) for job in product(options.seeds, cases, options.sparsities)]

    def record(row: dict[str, Any]) -> None:
        rows.append(row)
        with log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"settings": about, **row}) + "\n")

    with workers(options.jobs) as run:
        if not dense.exists() or not any(row["case"] == "dense" for row in rows):
            rows.clear()  # what there is may be of another dense network
            found = run(train_dense, settings, dense).result()
            print(f"{found['status']:8} dense: {described(found)}", flush=True)
            record({"case": "dense", "sparsity": 0.0, "seed": 0, **found})
            if found["status"] != "ok":
                return 1
        done = {(row["seed"], row["case"], row["sparsity"]) for row in rows}
        left = [job for job in jobs if available(job) and (job.seed, job.case, job.sparsity) not in done]
        for job, found in run_all(left, settings, dense, run, options.jobs, begin + options.seconds):
            print(f"{found['status']:8} {job}: {described(found)}", flush=True)
            record({**asdict(job), **found})
    for name in dict.fromkeys(job.case for job in jobs if not available(job)):
        print(f"not run  {name}: this gpmt has no method {CASES[name].method}")
    show(rows, options.sparsities, cases)
    seconds = time.monotonic() - begin
    document = {"machine": machine, "settings": about, "seconds": seconds, "results": rows}
    file = options.json or options.work / "results.json"
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    counts = {status: sum(row["status"] == status for row in rows) for status in ("ok", "FAILED", "not run")}
    print(", ".join(f"{count} {status}" for status, count in counts.items()) + f"; {seconds:.0f} seconds")
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
