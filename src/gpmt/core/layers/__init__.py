"""What layers' tensors are for, by class and by name, and which of their dimensions count what."""
