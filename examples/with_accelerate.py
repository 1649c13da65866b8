"""Accelerate: the same script on a CPU, or under `accelerate launch` on many GPUs and with mixed precision.

Accelerate saves and loads the Pruner with everything else; --resume goes on from its last checkpoint.
"""

import sys

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gpmt

images, labels = torch.tensor(load_digits().data / 16).float(), torch.tensor(load_digits().target)

torch.manual_seed(0)
accelerator = Accelerator()
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
loader = DataLoader(TensorDataset(images[:1500], labels[:1500]), batch_size=100, shuffle=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
schedule = gpmt.Gradual(0.9, end=15, unit="epoch")
pruner = gpmt.Pruner(model, optimizer, schedule=schedule, min_kept="1%", steps_per_epoch=len(loader))
accelerator.register_for_checkpointing(pruner)
if "--resume" in sys.argv:
    accelerator.load_state("runs/accelerate")

for _ in range(pruner.step_count // len(loader), 20):
    for batch, target in loader:
        optimizer.zero_grad()
        accelerator.backward(nn.functional.cross_entropy(model(batch), target))
        optimizer.step()
    accelerator.save_state("runs/accelerate")

network = accelerator.unwrap_model(model).cpu()
report = gpmt.verify(network, sparsity=0.9, min_kept="1%")
accuracy = (network(images[1500:]).argmax(1) == labels[1500:]).float().mean()
accelerator.print(f"{report}\nsparsity {report.pruned / report.numel:.2%}, accuracy {accuracy:.1%}")
accelerator.end_training()  # of several processes: their group ends before they do
