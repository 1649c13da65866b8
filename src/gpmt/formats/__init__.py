"""Files in and out: checkpoints of PyTorch and safetensors."""
