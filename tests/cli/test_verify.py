import json

import torch
from tests.cli.commands import PRUNED, N, error, gpmt

from gpmt.masks import Masks


def test_verify_exit_codes(dense: str) -> None:
    gpmt("prune", dense, "-o", "out.pt", "--sparsity", "0.9", "--min-kept", 5)
    printed = gpmt("verify", "out.pt", "--sparsity", "0.9", "--min-kept", 5).stdout
    assert f"total: {PRUNED} of {N} weights are pruned, as asked for" in printed
    assert f"ok: {PRUNED} of {N} weights are zero" in printed
    printed = gpmt("verify", "out.pt", "--sparsity", "0.8", code=1).stdout
    assert f"failed  total: {PRUNED} of {N} weights are pruned, 30 too many for the 236 asked for" in printed
    assert f"FAILED: {PRUNED} of {N} weights are zero" in printed
    gpmt("verify", "out.pt", "--sparsity", "0.8", "--tolerance", 30)
    gpmt("verify", "out.pt", "--min-kept", 100, code=1)
    assert error("verify", "out.pt", "--sparsity", "2").startswith("sparsity is 2, but")
    assert error("verify", "nope.pt") == "nope.pt does not exist; check the path"


def test_verify_with_masks_of_another_network(dense: str) -> None:
    Masks.from_dense({"other.weight": torch.ones(2, 2, dtype=torch.bool)}).save("other.safetensors")
    assert "other.weight is missing" in error("verify", dense, "--masks", "other.safetensors")
    assert (
        f"{dense} is not a readable safetensors file (it is one of torch.save); save the masks again"
        in error("verify", dense, "--masks", dense)
    )


def test_verify_json(dense: str) -> None:
    document = json.loads(gpmt("verify", dense, "--sparsity", "0.5", "--json", code=1).stdout)
    assert document["ok"] is False
    assert document["file"] == dense
    assert [check["status"] for check in document["checks"]] == ["ok", "ok", "failed"]


def test_verify_rows_and_patterns(dense: str) -> None:
    options = ("--within", "row", "--sparsity", 0.5)
    gpmt("prune", dense, "-o", "rows.pt", *options)
    assert "every row has sparsity 0.5" in gpmt("verify", "rows.pt", *options).stdout
    gpmt("verify", dense, *options, code=1)
    torch.save({"fc.weight": torch.randn(4, 8)}, "fc.pt")
    gpmt("prune", "fc.pt", "-o", "pairs.pt", "--pattern", "2:4")
    assert "have the pattern 2:4" in gpmt("verify", "pairs.pt", "--pattern", "2:4").stdout
    gpmt("verify", "fc.pt", "--pattern", "2:4", code=1)
    assert error("verify", "fc.pt", "--pattern", "4:2").startswith("pattern is '4:2', but must be N:M")
