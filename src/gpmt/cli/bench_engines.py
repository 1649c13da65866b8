"""The engines that ``gpmt bench`` sets beside gpmt: what each is called, what it needs, and how it is prepared."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gpmt.cli.engines import Call, eager_call, inductor_call, onnx_file_call, openvino_file_call
from gpmt.errors import GpmtError
from gpmt.extras import missing

if TYPE_CHECKING:
    from torch import nn

    from gpmt.cli.engines import Inputs


@dataclass
class Subject:
    """What engines run.

    Attributes:
        module: the network.
        inputs: of a call.
        threads: that an engine may use.
        folder: where an ONNX file of the network can be written.
    """

    module: nn.Module
    inputs: Inputs
    threads: int
    folder: Path

    @property
    def is_file(self) -> bool:
        """Whether the network is an ONNX file."""
        from gpmt.runtime.onnx_frontend.network import OnnxNetwork

        return isinstance(self.module, OnnxNetwork)

    @cached_property
    def onnx(self) -> Path:
        """An ONNX file of the network. Raises `GpmtError` where it cannot be exported."""
        from gpmt.formats.exporters.onnx import export_onnx
        from gpmt.runtime.onnx_frontend.network import OnnxNetwork

        if isinstance(self.module, OnnxNetwork):
            return self.module.path
        path = self.folder / "network.onnx"
        export_onnx(self.module, path, self.inputs, check=False)
        return path


@dataclass(frozen=True)
class Engine:
    """An engine.

    Attributes:
        title: its name in tables.
        prepare: returns a call of it; raises `CheckpointError` for a network that it does not run.
        package: that it needs beside PyTorch.
        reads_onnx: whether it runs an ONNX file, which PyTorch has to write first.
    """

    title: str
    prepare: Callable[[Subject], Call]
    package: str = ""
    reads_onnx: bool = False

    def lacking(self, subject: Subject) -> str | None:
        """Return a package that is needed and not installed."""
        needed = [self.package] if self.package else []
        if self.reads_onnx and not subject.is_file:
            needed += ["onnx", "onnxscript"]
        return next((name for name in needed if find_spec(name) is None), None)


ENGINES = {
    "eager": Engine("PyTorch", lambda given: eager_call(given.module, given.inputs)),
    "compile": Engine("torch.compile", lambda given: inductor_call(given.module, given.inputs)),
    "onnx": Engine(
        "ONNX Runtime",
        lambda given: onnx_file_call(given.onnx, given.inputs, given.threads),
        "onnxruntime",
        reads_onnx=True,
    ),
    "openvino": Engine(
        "OpenVINO",
        lambda given: openvino_file_call(given.onnx, given.inputs, given.threads),
        "openvino",
        reads_onnx=True,
    ),
}
USUAL = ("eager", "onnx")
"""What gpmt is compared with if nothing is asked for: they are prepared in seconds."""


def checked(text: str | None, *, every: bool) -> tuple[str, ...] | None:
    """Return the names in the option --engines, None where none are asked for.

    Args:
        text: of the option; None where it is not given.
        every: whether --compare is given.

    Raises:
        GpmtError: a name that is not known, or both options.
    """
    if text is None:
        return None
    if every:
        raise GpmtError("--compare means all engines that are installed; leave out --engines, or --compare")
    names = () if text == "none" else tuple(text.split(","))
    for name in names:
        if name not in ENGINES:
            raise GpmtError(f"--engines has {name!r}, but must be none, or some of {', '.join(ENGINES)}")
    return names


def prepare(
    subject: Subject, names: Sequence[str], *, demanded: bool
) -> tuple[dict[str, Call], dict[str, str]]:
    """Return the calls of engines by name, and of those that are left out the reason.

    Args:
        subject: what they run.
        names: of `ENGINES`.
        demanded: raise `GpmtError` rather than leave one out.
    """
    calls: dict[str, Call] = {}
    left_out: dict[str, str] = {}
    for name in names:
        engine = ENGINES[name]
        try:
            if package := engine.lacking(subject):
                raise GpmtError(missing(package))
            calls[name] = engine.prepare(subject)
        except GpmtError as error:
            if demanded:
                raise
            left_out[name] = str(error)
    return calls, left_out


@contextmanager
def subject_of(module: nn.Module, inputs: Inputs, threads: int) -> Iterator[Subject]:
    """Yield what engines run, with a temporary folder for its ONNX file."""
    with tempfile.TemporaryDirectory() as folder:
        yield Subject(module, inputs, threads, Path(folder))
