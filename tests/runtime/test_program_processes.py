"""Programs among threads and processes: several callers, fork, memory that stays as it is, or is not there."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
from tests.runtime.networks import noise, scramble
from tests.waiting import DEADLINE_SECONDS
from torch import nn

import gpmt

PREAMBLE = """
import faulthandler, os, resource, sys, threading, warnings
import torch
from torch import nn
import gpmt
from gpmt.errors import RuntimeProgramError
torch.set_num_threads(1)
torch.set_grad_enabled(False)
torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
mixed = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Softplus(), nn.Conv2d(8, 4, 3)).eval()
images = torch.randn(2, 3, 9, 10)

def right(program, network=network, images=images):
    return torch.allclose(program(images), network(images), atol=1e-5)
"""


def script(text, **environment):
    """Run a script that knows some networks in a process of its own; it has to say that all is well."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PREAMBLE + text + "\nprint('well')"],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "well", done.stdout + done.stderr
    return done


def native(filters=8):
    torch.manual_seed(filters)
    return scramble(
        nn.Sequential(
            nn.Conv2d(3, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU(), nn.Conv2d(filters, 4, 3)
        )
    )


def mixed():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Softplus(), nn.Conv2d(8, 4, 3)).eval()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("lazy", [False, True])
def test_several_callers(threads, lazy):
    networks = [native(8), native(5), mixed()]
    shapes = [(2, 3, 9, 10), (1, 3, 7, 7), (3, 3, 6, 8)]
    programs = [
        gpmt.compile(network, noise(*shape), threads=threads, tune=False)
        for network, shape in zip(networks, shapes, strict=True)
    ]
    failures = []

    @torch.no_grad()
    def call(which, seed):
        try:
            for i in range(30):
                batch = (seed + i) % 4 + 1 if lazy and which < 2 else shapes[which][0]
                images = noise(batch, *shapes[which][1:], seed=100 * seed + i)
                result, expected = programs[which](images), networks[which](images)
                if not torch.allclose(result, expected, atol=1e-5):
                    failures.append((which, seed, i))
        except BaseException as error:
            failures.append(error)

    callers = [threading.Thread(target=call, args=(i % 3, i)) for i in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not any(caller.is_alive() for caller in callers)
    assert failures == []


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "called"), [(2, False), (1, True), (2, True)])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork(threads, called):
    """A child computes on its own, also while another thread of the parent was in the middle of a run (`called`)."""
    script(f"""
warnings.filterwarnings("ignore", category=DeprecationWarning)  # about fork in a process with threads
programs = [gpmt.compile(n, images, threads={threads}, tune=False) for n in (network, mixed)]
one = images[:1]
assert right(programs[0]) and right(programs[0], images=one) and right(programs[1], mixed)
stop = threading.Event()

def busy():
    while {called} and not stop.is_set():
        programs[0](images), programs[0](one), programs[1](images)

caller = threading.Thread(target=busy)
caller.start()
children = []
for i in range(4):
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(40)  # says where, should it hang
        try:
            well = right(programs[0]) and right(programs[0], images=one) and right(programs[1], mixed)
            fresh = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
            well = well and right(gpmt.compile(fresh, images, threads={threads}, tune=False), fresh)
        finally:
            os._exit(0 if well else 1)
    children.append(child)
assert right(programs[0]) and right(programs[1], mixed)
import time
deadline = time.monotonic() + 60
while children and time.monotonic() < deadline:
    done, status = os.waitpid(children[0], os.WNOHANG)
    if done:
        assert status == 0, status
        children.pop(0)
    time.sleep(0.01)
for child in children:
    os.kill(child, 9)
stop.set()
caller.join()
assert not children, f"{{len(children)}} children hang"
""")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that signal")
@pytest.mark.parametrize("threads", [1, 2])
def test_exceptions_of_signals_do_no_harm(threads):
    """A timeout, or Ctrl-C, may come between any two instructions of a call."""
    script(f"""
import random, signal
random.seed(0)
tiny, one = nn.Conv2d(1, 1, 1).eval(), torch.ones(1, 1, 2, 2)
program = gpmt.compile(tiny, one, threads={threads}, tune=False)

class Timeout(Exception):
    pass

def handler(*_):
    if armed:
        raise Timeout

signal.signal(signal.SIGALRM, handler)
for _ in range(1500):
    armed = True
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(2e-5, 4e-4), 0.1)
        while True:
            program(one)
    except Timeout:
        pass
    armed = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    torch.set_grad_enabled(False)
    assert right(program, tiny, one)
results = []
caller = threading.Thread(target=lambda: results.append(right(program, tiny, one)))
caller.start()
caller.join(30)
assert results == [True]
""")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("make", "batch"), [(native, 1), (native, 2), pytest.param(mixed, 2, marks=pytest.mark.slow)]
)
def test_memory_is_stable(make, batch):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    images = noise(batch, 3, 9, 10)
    program = gpmt.compile(make(), images, threads=1, tune=False)
    for _ in range(500):
        program(images)
    before = resident()
    for _ in range(10_000):
        program(images)
    assert resident() - before < 1 << 20


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_programs_are_given_back():
    script("""
import gc
def mapped():
    return int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")

def use():
    for n in (network, mixed):
        assert right(gpmt.compile(n, images, threads=2, tune=False), n)

use()
gc.collect()
before = mapped()
for _ in range(20):
    use()
gc.collect()
assert mapped() - before < 30 << 20, mapped() - before
""")


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
@pytest.mark.slow
@pytest.mark.parametrize("shape", ["(1, 3, 8_000, 8_000)", "(4000, 3, 600, 600)"])
def test_no_memory(shape):
    script(f"""
program = gpmt.compile(network, images, threads=2, tune=False)
assert right(program)
taken = lambda: int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
before = taken()
resource.setrlimit(resource.RLIMIT_AS, (before + (400 << 20),) * 2)
huge = torch.ones(1).expand({shape})
for threads, tune in ((1, False), (2, True)):
    try:
        gpmt.compile(mixed, huge, threads=threads, tune=tune)
    except RuntimeProgramError as error:
        text = str(error)
        assert "memory, which the system does not give (" in text, text
        assert text.endswith("compile for a smaller batch"), text
    else:
        raise AssertionError("there was enough memory")
import gc
gc.collect()
assert taken() - before < 100 << 20, taken() - before
assert right(program)
assert right(gpmt.compile(mixed, images, threads=2, tune=False), mixed)
""")


@pytest.mark.slow
def test_without_vector_instructions():
    script(
        """
import pytest
for n in (network, mixed):
    with pytest.warns(RuntimeWarning, match="neither AVX2 with FMA nor NEON: programs compiled for it are right"):
        program = gpmt.compile(n, images, threads=2, tune=False)
    assert right(program, n)
    assert "plain" in repr(program)
assert right(program, mixed)
""",
        GPMT_TARGET="plain",
    )


@pytest.mark.slow
def test_nothing_is_printed():
    done = script("program = gpmt.compile(network, images, threads=2)\nassert right(program)")
    assert done.stderr == ""
