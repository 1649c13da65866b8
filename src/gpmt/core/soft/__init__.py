"""Functions that shrink kept weights by a threshold."""
