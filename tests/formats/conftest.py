"""What pytest leaves alone here."""

# They ran once, with the libraries that they import, and made the fixtures.
collect_ignore_glob = ["fixtures/make_*.py"]
