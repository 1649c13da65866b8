import subprocess
import sys
import textwrap

from tests.runtime.threads.pool_kernels import KERNELS
from tests.waiting import DEADLINE_SECONDS

# What these tests do ends or forks a process: each has one of its own.
_PRELUDE = f"""
import os, signal, sys, threading, time, warnings
import numpy as np
from gpmt.runtime.codegen import jit
from gpmt.runtime.threads.thread_pool import StepTable, ThreadPool
warnings.simplefilter("ignore")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
KERNELS = '''{KERNELS}'''
count, meet = jit.load(KERNELS, "count"), jit.load(KERNELS, "meet")
numbers = np.zeros(64, np.int64)
table = StepTable([(count, numbers.ctypes.data, 64)] * 10)
met = np.zeros(2, np.int64)
pairs = StepTable([(meet, met.ctypes.data, 2)])
pool = ThreadPool.shared(2)
"""


def _script(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_a_fork_has_workers_of_its_own_and_the_parent_keeps_its():
    code = """
    def child_is_well():
        child = os.fork()
        if child == 0:
            met[:] = numbers[:] = 0
            pool.run(pairs, 3)
            pool.run(table)
            good = met.tolist() == [6, 0] and (numbers == 10).all() and threading.active_count() == 2
            grandchild = os.fork()
            if grandchild == 0:
                met[:] = 0
                pool.run(pairs)
                os._exit(0 if met.tolist() == [2, 0] else 1)
            os._exit(0 if good and os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0 else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    assert child_is_well()  # before the first run
    pool.run(pairs)
    for _ in range(10):
        assert child_is_well()
    met[:] = 0
    pool.run(pairs)
    assert met.tolist() == [2, 0]
    stop = threading.Event()  # another thread is in a run, most of the time
    def busy():
        own = np.zeros(64, np.int64)
        long = StepTable([(count, own.ctypes.data, 64)] * 10)
        while not stop.is_set():
            pool.run(long, 100)
    other = threading.Thread(target=busy)
    other.start()
    for _ in range(20):
        assert child_is_well()
    stop.set()
    other.join()
    met[:] = 0
    pool.run(pairs)
    assert met.tolist() == [2, 0]
    print("well")
    """
    assert _script(_PRELUDE + textwrap.dedent(code)) == "well"


ENDINGS = {
    "at once": "pool.run(table)",
    "asleep": "pool.run(table); time.sleep(0.01)",
    "closed": "pool.run(table); pool.close()",
    "dropped": "ThreadPool.shared(4).run(table); del pool, table, numbers",
    "first run at exit": "atexit.register(lambda: pool.run(table))",
    "runs at exit": "pool.run(table); atexit.register(lambda: pool.run(table))",
    "runs after the workers": "pool.run(table); late.append(lambda: pool.run(table))",
    "daemons": "daemons(pool)",
    "daemons, one thread": "daemons(ThreadPool.shared(1))",
    "daemons, many threads": "daemons(ThreadPool.shared(4))",
    "a fork": "pool.run(pairs); os.fork(); pool.run(pairs)",
    "an error": "pool.run(table); raise ValueError",
}


def test_the_interpreter_ends_promptly():
    # Each case in a fork, which ends as a script does; `late` runs after the pool's own function at exit.
    before = "import atexit; late = []; atexit.register(lambda: [run() for run in late])\n"
    code = f"""
    def daemons(of):
        def busy():
            while True:
                of.run(table, 20)
        for _ in range(2):
            threading.Thread(target=busy, daemon=True).start()
        time.sleep(0.05)

    for name, ending in {ENDINGS!r}.items():
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            if name == "an error":
                os.close(2)
            exec(ending)
            sys.exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        took = time.monotonic() - begun
        if code != (name == "an error") or took > 2:
            print(name, code, took)
    print("all")
    """
    assert _script(before + _PRELUDE + textwrap.dedent(code)) == "all"


def test_an_interrupt_leaves_the_pool_usable():
    code = """
    def interrupt():
        sent = 0
        while sent < 200 or seen < 6:  # several in one native call are seen as one
            time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)
            sent += 1
    seen, calls, alive = 0, 0, True
    other = threading.Thread(target=interrupt, daemon=True)
    try:
        other.start()
    except KeyboardInterrupt:
        seen += 1
    while alive:
        try:
            calls += 1
            pool.run(table, 50)
            if calls % 3 == 0:
                pool.close()
            alive = other.is_alive()
        except KeyboardInterrupt:
            seen += 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    met[:] = numbers[:] = 0
    pool.run(pairs)
    pool.run(table)
    assert met.tolist() == [2, 0] and (numbers == 10).all()
    pool.close()
    assert threading.active_count() <= 6  # workers may have got lost between being started and being known
    print("well")
    """
    assert _script(_PRELUDE + textwrap.dedent(code)) == "well"


def test_a_signal_handler_may_run_a_table_in_the_middle_of_a_run():
    code = """
    runs = 0
    def handler(*_):
        global runs
        runs += 1
        pool.run(table)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    own = np.zeros(64, np.int64)
    other = StepTable([(count, own.ctypes.data, 64)])
    end = time.monotonic() + 0.3
    calls = 0
    while time.monotonic() < end:
        pool.run(other)
        calls += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert runs > 20
    assert (own == calls).all() and (numbers == 10 * runs).all()
    print("well")
    """
    assert _script(_PRELUDE + textwrap.dedent(code)) == "well"


def test_a_signal_handler_may_run_a_table_while_the_workers_are_being_started():
    code = """
    runs, many = 0, ThreadPool(32)  # they take longer to start than signals to come
    def handler(*_):
        global runs
        runs += 1
        many.run(one)
    one = StepTable([(count, numbers.ctypes.data, 1)])
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        many.run(one)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert runs > 0
    assert numbers[0] == runs + 1
    assert threading.active_count() == 32
    many.close()
    assert threading.active_count() == 1
    print("well")
    """
    assert _script(_PRELUDE + textwrap.dedent(code)) == "well"
