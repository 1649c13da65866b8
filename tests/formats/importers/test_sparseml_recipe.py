"""Recipes in the forms that SparseML 1.8 reads and writes; the texts are ours."""

from contextlib import suppress
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gpmt.errors import CheckpointError
from gpmt.formats.importers.sparseml_recipe import PruningModifier, read_recipe

pytest.importorskip("yaml", reason="recipes need PyYAML, which is in the extra gpmt[train]")

A = Path("a.pt")


def read(text: str) -> list[PruningModifier]:
    return read_recipe(A, text)


PLAIN = """
version: 1.1.0

__metadata__:

modifiers:
    - !EpochRangeModifier
        end_epoch: 2.0
        start_epoch: 0.0

    - !GMPruningModifier
        end_epoch: 1.0
        final_sparsity: 0.8
        params: ['re:conv.*weight', 'fc.weight']
"""


def test_plain() -> None:
    expected = PruningModifier("GMPruningModifier", ("re:conv.*weight", "fc.weight"), (0.8,))
    assert read(PLAIN) == [expected]


def test_backslashes_that_were_doubled() -> None:
    assert read(PLAIN.replace("conv", r"conv\\."))[0].params[0] == r"re:conv\..*weight"
    assert read(PLAIN.replace("conv", r"conv\."))[0].params[0] == r"re:conv\..*weight"


def test_markdown_with_a_comment_before_it() -> None:
    text = f"<!--\nour terms\n-->\n\n---{PLAIN}---\n\n# A recipe\n---\nand: more\n"
    assert read(text) == read(PLAIN)
    assert read("---" + PLAIN) == read(PLAIN)  # the start of a document, which nothing ends


def test_variables_anchors_and_groups() -> None:
    text = """
level: &level 0.75
names: [fc.weight]
training_modifiers:
  - !SetLearningRateModifier
    learning_rate: 0.1
pruning_modifiers:
  - !MagnitudePruningModifier {params: __ALL_PRUNABLE__, final_sparsity: *level}
  - !GMPruningModifier {params: eval(names), final_sparsity: eval(level)}
  - !MFACPruningModifier {params: [a], final_sparsity: eval(level * 1.1)}
  - !ConstantPruningModifier
    params: "re:.*weight"
  - !GlobalMagnitudePruningModifier
  - !LayerPruningModifier {layers: [x]}
"""
    assert read(text) == [
        PruningModifier("MagnitudePruningModifier", ("__ALL_PRUNABLE__",), (0.75,)),
        PruningModifier("GMPruningModifier", ("fc.weight",), (0.75,)),
        PruningModifier("MFACPruningModifier", ("a",), ()),  # sums are not worked out
        PruningModifier("ConstantPruningModifier", ("re:.*weight",), ()),
        PruningModifier("GlobalMagnitudePruningModifier", ("__ALL_PRUNABLE__",), ()),
    ]


def test_stages_with_variables_of_their_own() -> None:
    text = """
level: 0.5
first:
  pruning_modifiers:
    - !GMPruningModifier {params: [a], final_sparsity: eval(level)}
second:
  level: 0.9
  pruning_modifiers:
    - !ACDCPruningModifier {params: [b], compression_sparsity: eval(level)}
    - !TopKASTPruningModifier {params: [c], forward_sparsity: 0.7, backward_sparsity: 0.6}
"""
    assert [(m.params, m.sparsities) for m in read(text)] == [
        (("a",), (0.5,)),
        (("b",), (0.9,)),
        (("c",), (0.7,)),
    ]


def test_sparsities_with_names() -> None:
    text = """
low: 0.6
modifiers:
  - !GMPruningModifier
    params: []
    final_sparsity:
      eval(low): [a, "re:b.*"]
      0.9: [c]
"""
    assert read(text) == [PruningModifier("GMPruningModifier", ("a", "re:b.*", "c"), (0.6, 0.9))]


def test_recipes_without_pruning() -> None:
    assert read("modifiers:\n  - !EpochRangeModifier {end_epoch: 1.0}\n") == []
    assert read("modifiers:\nother: 3\nstage: {x_modifiers: }\n") == []


REMEDY = "; save its state_dict alone, and the zeros are read$"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", r"its recipe is not valid YAML at line 1 \(expected ',' or '\]', but got"),
        ("just words about a Modifier", "its recipe has no sections"),
        ("- a\n- b", "its recipe has no sections"),
        ("", "its recipe has no sections"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "its recipe is not valid YAML at line 1 .could not determine a",
        ),
        ("a: !!python/name:os.system", "its recipe is not valid YAML at line 1"),
        ("? [1, 2]\n: x", "its recipe is not valid YAML"),
        ("a: " + "[" * 1000, r"its recipe is not valid YAML \(RecursionError\)"),
        ("a: 2026-99-99", "its recipe is not valid YAML"),
        ("a: " + "9" * 5000, "its recipe is not valid YAML"),
        ("a: &a {x: 1}\nb: {<<: [*a, *a]}", r"its recipe is not valid YAML .*merge keys \(<<\) are not read"),
        ("x" * (2**18 + 1), "its recipe has 262,145 characters, which is too long"),
        (
            PLAIN.replace("'fc.weight'", "3"),
            "GMPruningModifier of its recipe prunes a value of type int, which names no tensors",
        ),
        (PLAIN.replace("'fc.weight'", "[x]"), "prunes a value of type list, which names no tensors"),
        (PLAIN.replace("'fc.weight'", "eval(names)"), r"prunes 'eval\(names\)', which names no tensors"),
        (PLAIN.replace("conv.*", "(a+)+b"), r"which repeats too much to be matched safely"),
        (PLAIN.replace("conv.*", ".*" * 6), r"which repeats too much to be matched safely"),
        (PLAIN.replace("conv.*", "(conv"), r"prunes 're:\(convweight', which is not a regular expression \("),
    ],
)
def test_bad_recipes(text: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^a\.pt: .*{message}.*{REMEDY}") as caught:
        read(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_aliases_that_would_fill_the_memory() -> None:
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 30))
    text = f"l0: &l0 [x]\n{levels}modifiers:\n  - !GMPruningModifier {{params: [*l29]}}\n"
    with pytest.raises(CheckpointError, match="prunes a value of type list, which names no tensors"):
        read(text)


def test_sparsities_that_are_none() -> None:
    for value in ("1.5", "-0.1", ".nan", "'high'", "[0.5]", "9" * 400, "null"):
        assert read(PLAIN.replace("0.8", value))[0].sparsities == ()


@given(st.text(alphabet="!-: []{}&*<>\n\tabe'\"#%|,?"))
def test_any_text_ends_in_an_answer_or_an_error(text: str) -> None:
    with suppress(CheckpointError):
        read(f"modifiers:\n  - !GMPruningModifier\n    {text}")
