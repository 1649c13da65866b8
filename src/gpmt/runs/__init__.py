"""What the folders of runs and sweeps tell, read from their files without PyTorch."""
