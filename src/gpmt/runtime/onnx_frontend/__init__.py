"""From an ONNX file to a network that PyTorch runs, which is captured like any other."""
