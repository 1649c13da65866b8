"""Writers of the files that other tools read, one module a format."""
