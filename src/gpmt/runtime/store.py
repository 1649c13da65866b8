"""Programs as files: weights in the sparse format, and the graph as JSON in the metadata.

Nothing in a file depends on the processor: kernels are chosen and compiled again where it is opened.
"""

from __future__ import annotations

import json
import math
import os
from collections import OrderedDict
from typing import Any

from gpmt.errors import CheckpointError
from gpmt.formats.sparse.reader import SparseFile
from gpmt.formats.sparse.writer import SparseSize, save_sparse
from gpmt.runtime.frontend.call_signature import CallSignature
from gpmt.runtime.ir.document import DocumentError
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.serialization import read, write
from gpmt.torch_private import tree_flatten, tree_unflatten

KEY = "gpmt-program"
"""The key of the JSON document in a file's metadata."""

VERSION = 1


def save(signature: CallSignature, graph: Graph, path: str | os.PathLike[str]) -> SparseSize:
    """Write an optimized graph, and how calls and results map to it, atomically.

    Raises:
        CheckpointError: the network returns, or calls, something that a file cannot hold; nothing is written then.
    """
    try:
        result = _encode_result(signature)
        described, tensors = write(graph)
    except DocumentError as error:
        raise CheckpointError(f"{path} {error}; compile the network again where it is used") from None
    document = {
        "version": VERSION,
        "arguments": list(signature.arguments),
        "positional": list(signature.positional),
        "result": result,
        "graph": described,
    }
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return save_sparse(tensors, path, metadata={KEY: text})


def read_program(path: str | os.PathLike[str]) -> tuple[CallSignature, Graph]:
    """Return what `save` wrote; all of it is checked, since anyone may have written the file.

    Raises:
        CheckpointError: a file that is missing, damaged, of another kind, or that contradicts itself.
    """
    with SparseFile(path) as file:
        if KEY not in file.metadata:
            raise CheckpointError(
                f"{path} holds weights, but no program; write one with gpmt.compile(network, example).save(path)"
            )
        try:
            document = _parse(file.metadata[KEY])
            graph = read(document["graph"], file.load())
            return _read_signature(document, graph), graph
        except DocumentError as error:
            raise CheckpointError(f"{path} {error}; write it again") from None
        except RecursionError:
            raise CheckpointError(f"{path} has a program that is nested too deeply; write it again") from None


def holds_program(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is a program that `Program.save` wrote, by its header."""
    try:
        with SparseFile(path) as file:
            return KEY in file.metadata
    except CheckpointError:
        return False


def _parse(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise DocumentError(f"has a program that is not JSON ({error})") from None
    if not isinstance(document, dict):
        raise DocumentError("has a program that is not a table")
    if document.get("version") != VERSION:
        raise DocumentError(
            f"has a program of version {str(document.get('version'))[:20]}, but this gpmt reads version {VERSION}; "
            "use a newer gpmt, or"
        )
    if document.keys() != {"version", "arguments", "positional", "result", "graph"}:
        raise DocumentError("has a program with other parts than arguments, positional, result and graph")
    return document


def _read_signature(document: dict[str, Any], graph: Graph) -> CallSignature:
    arguments, positional = document["arguments"], document["positional"]
    for what in (arguments, positional):
        names = what if isinstance(what, list) else [None]
        if not all(isinstance(name, str) for name in names) or len({*names}) != len(names):
            raise DocumentError(f"has {str(what)[:60]} for the names of arguments")
    if len(arguments) != len(graph.inputs):
        raise DocumentError(f"has {len(arguments)} arguments, but {len(graph.inputs)} inputs")
    parts, structure = tree_flatten(_decode_result(document["result"]))
    leaves = {i: part.value for i, part in enumerate(parts) if isinstance(part, _PlainLeaf)}
    if len(parts) - len(leaves) != len(graph.outputs):
        raise DocumentError(f"has {len(parts) - len(leaves)} results, but {len(graph.outputs)} outputs")
    return CallSignature(tuple(arguments), tuple(positional), structure, leaves)


class _PlainLeaf:
    """A part of a result that is not a tensor."""

    def __init__(self, value: Any) -> None:
        self.value = value


_KINDS: dict[type, str] = {tuple: "tuple", list: "list", dict: "dict", OrderedDict: "ordered"}


def _encode_result(signature: CallSignature) -> Any:
    """Return the structure of a result as plain data, with "tensor" for each tensor."""
    parts: list[Any] = ["tensor"] * signature.result.num_leaves
    for place, value in signature.leaves.items():
        infinite = isinstance(value, float) and not math.isfinite(value)
        parts[place] = {"float": repr(value)} if infinite else {"value": value}
    return _encode_tree(tree_unflatten([_PlainLeaf(part) for part in parts], signature.result))


def _encode_tree(tree: Any) -> Any:
    if isinstance(tree, _PlainLeaf):
        return tree.value
    kind = _KINDS.get(type(tree), "")
    if kind in ("tuple", "list"):
        return {kind: [_encode_tree(part) for part in tree]}
    if kind and all(isinstance(key, str) for key in tree):
        return {kind: [[key, _encode_tree(part)] for key, part in tree.items()]}
    raise DocumentError(
        f"cannot hold a program that returns a {type(tree).__name__}: only tensors in tuples, lists and dicts by name"
    )


def _decode_result(data: Any) -> Any:
    """Return a result of this structure, with None for each tensor."""
    match data:
        case "tensor":
            return None
        case {"value": None | bool() | int() | float() | str() as value} if len(data) == 1:
            return _PlainLeaf(value)
        case {"float": "inf" | "-inf" | "nan" as text} if len(data) == 1:
            return _PlainLeaf(float(text))
        case {"tuple": list(parts)} if len(data) == 1:
            return tuple(_decode_result(part) for part in parts)
        case {"list": list(parts)} if len(data) == 1:
            return [_decode_result(part) for part in parts]
        case {"dict": list(entries)} | {"ordered": list(entries)} if len(data) == 1:
            found = _entries(entries)
            return found if "dict" in data else OrderedDict(found)
    raise DocumentError(f"has {str(data)[:60]} for the structure of its result")


def _entries(entries: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in entries:
        match entry:
            case [str(key), part] if key not in found:
                found[key] = _decode_result(part)
            case _:
                raise DocumentError(f"has {str(entry)[:60]} for a part of its result")
    return found
