"""The layers that one tensor holds."""
