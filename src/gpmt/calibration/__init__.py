"""Running a network on calibration data: its loss, its gradients, and the inputs of its layers."""
