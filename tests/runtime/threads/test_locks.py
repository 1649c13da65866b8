import threading

import pytest
from tests.private_names import attributes

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.threads.locks import new_lock, refuse_reentry


def test_the_private_methods_of_locks_exist() -> None:
    used = attributes("runtime/threads/locks")
    assert used >= {"_is_owned", "_at_fork_reinit"}
    assert all(callable(getattr(threading.RLock(), name)) for name in used)


def test_only_the_thread_that_holds_a_lock_is_refused() -> None:
    lock = new_lock()
    refuse_reentry(lock)
    with lock:
        with pytest.raises(
            RuntimeProgramError, match=r"^the program was called in the middle of a call of itself"
        ):
            refuse_reentry(lock)
        other = threading.Thread(target=refuse_reentry, args=(lock,))
        other.start()
        other.join()
    refuse_reentry(lock)
