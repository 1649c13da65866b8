"""Magnitudes and scores as integers, and the loops over them."""
