"""A training loop in plain PyTorch that prunes gradually to 90 %; --resume goes on from the last checkpoint.

The loop needs the Pruner alone, and its state in the checkpoint. With mixed precision, `scaler.step(optimizer)`
is enough as well: the Pruner does not count a step that the scaler skips.
"""

import os
import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

import gpmt

images, labels = map(torch.tensor, load_digits(return_X_y=True))
images, checkpoint = images.float() / 16, "runs/plain.pt"

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
pruner = gpmt.Pruner(model, optimizer, schedule=gpmt.Gradual(0.9, end=200, interval=10), min_kept="1%")
parts = {"model": model, "optimizer": optimizer, "pruner": pruner}
if "--resume" in sys.argv:
    states = torch.load(checkpoint)
    for name, part in parts.items():  # the Pruner last
        part.load_state_dict(states[name])

for epoch in range(pruner.step_count // 15, 20):
    torch.manual_seed(epoch)  # so that a resumed run sees the same batches
    for batch in torch.randperm(1500).split(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()  # when it returns, the pruned weights are zero
    os.makedirs("runs", exist_ok=True)
    torch.save({name: part.state_dict() for name, part in parts.items()}, checkpoint)

report = gpmt.verify(model, sparsity=0.9, min_kept="1%")
accuracy = (model(images[1500:]).argmax(1) == labels[1500:]).float().mean()
print(f"{report}\nsparsity {report.pruned / report.numel:.2%}, accuracy {accuracy:.1%}")
