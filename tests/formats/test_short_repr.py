"""Values of files in messages."""

from gpmt.formats.short_repr import short_repr


def test_containers_are_named_by_their_type_alone() -> None:
    nested: tuple[object, ...] = ()
    for _ in range(100):
        nested = (nested, nested)
    assert short_repr(nested) == "tuple"
