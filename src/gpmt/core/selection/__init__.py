"""Exact selection, given totals and floors."""
