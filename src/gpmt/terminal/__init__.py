"""Results as tables for people to read."""
