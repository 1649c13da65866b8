"""How the kept weights are shared among the tensors: one allocation a file."""
