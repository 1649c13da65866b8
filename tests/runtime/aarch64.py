"""Code for aarch64 on any Linux machine: linked by a cross compiler, run in QEMU."""

import platform
import shutil
import subprocess
from functools import cache

from gpmt.runtime.codegen import jit, processor

COMPILER, LINKER, COPIER = (f"aarch64-linux-gnu-{name}" for name in ("gcc", "ld", "objcopy"))
PROCESSOR = processor.named("neon")

# All sections in a row from address 0 on, first the kernel: the bytes can be at the start of any page.
_FLAT = """
SECTIONS { . = 0; .code : { *(.text*) *(.rodata*) *(.data*) } /DISCARD/ : { *(*) } }
ASSERT(kernel == 0, "the kernel is not the first function")
"""


def missing():
    """Return why code for aarch64 cannot be tested here, None where it can."""
    if platform.machine() == "aarch64":
        return "this processor runs the code of aarch64 in all other tests"
    tools = {name: shutil.which(name) for name in (COMPILER, LINKER, COPIER)} | {"qemu-aarch64": _qemu()}
    lacking = [name for name, path in tools.items() if not path]
    return f"needs {' and '.join(lacking)}: `make test-aarch64` installs them" if lacking else None


@cache
def _qemu():
    return shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")


def program(folder, source, objects=(), macros=None):
    """Compile a program of one C source file and object files (bytes), and return the command that runs it."""
    files, macros = [], [f"-D{name}={value}" for name, value in (macros or {}).items()]
    for number, content in enumerate(objects):
        files.append(folder / f"{number}.o")
        files[-1].write_bytes(content)
    binary = folder / source.stem
    _check(COMPILER, "-O2", "-Wall", "-Werror", "-static", "-pthread", *macros, source, *files, "-o", binary)
    return [_qemu(), str(binary)]


def flat_code(ir, folder):
    """Return the machine code of a module of LLVM IR, whose function `kernel` is at its start."""
    script, object_file, linked, binary = (folder / f"kernel.{end}" for end in ("ld", "o", "elf", "bin"))
    script.write_text(_FLAT)
    object_file.write_bytes(jit.compile_object(ir, PROCESSOR))
    _check(LINKER, "-T", script, object_file, "-o", linked)
    _check(COPIER, "-O", "binary", linked, binary)
    return binary.read_bytes()


def _check(*command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
