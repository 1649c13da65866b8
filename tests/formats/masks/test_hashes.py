"""The hashes stand in mask files, so they are fixed to the byte."""

import hashlib

import numpy as np

from gpmt.formats.masks.hashes import mask_hash, structure_hash

SHAPES = {"a.weight": (3, 7), "größe": ()}
PACKED = {
    "größe": np.array([1], np.uint8),
    "a.weight": np.array([0b10, 0, 0b10000], np.uint8),
}
JSON = b'{"a.weight": [3, 7], "gr\\u00f6\\u00dfe": []}'


def test_the_structure_is_the_json_of_names_and_shapes():
    assert structure_hash(SHAPES) == hashlib.sha256(JSON).hexdigest()


def test_the_masks_follow_the_structure_in_the_order_of_the_shapes():
    assert mask_hash(SHAPES, PACKED) == hashlib.sha256(JSON + bytes([0b10, 0, 0b10000, 1])).hexdigest()


def test_the_order_of_names_counts():
    turned = dict(reversed(SHAPES.items()))
    assert structure_hash(turned) != structure_hash(SHAPES)
    assert mask_hash(turned, PACKED) != mask_hash(SHAPES, PACKED)


def test_no_masks_at_all_have_a_hash():
    assert structure_hash({}) == mask_hash({}, {}) == hashlib.sha256(b"{}").hexdigest()
