"""timm: its network, optimiser and EMA; once tracked, the average is pruned along with the network.

A checkpoint needs the states of all four, loaded in the order of `parts`, as in plain.py.
"""

import timm
import torch
from sklearn.datasets import load_digits
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import nn

import gpmt

digits = load_digits()
images, labels = torch.tensor(digits.images).float().unsqueeze(1) / 8 - 1, torch.tensor(digits.target)

torch.manual_seed(0)
model = timm.create_model("test_vit", depth=2, img_size=8, patch_size=4, in_chans=1, num_classes=10)
optimizer = create_optimizer_v2(model, opt="adamw", lr=5e-3, weight_decay=0.05)
ema = ModelEmaV3(model, decay=0.95)
pruner = gpmt.Pruner(model, optimizer, schedule=gpmt.Gradual(0.9, end=100, interval=10), min_kept="0.1%")
pruner.track(ema)
parts = {"model": model, "ema": ema, "optimizer": optimizer, "pruner": pruner}
for _ in range(10):
    for batch in torch.randperm(1500).split(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
        ema.update(model)  # after the step: the weights to average are pruned

report = gpmt.verify(ema.module, sparsity=0.9, min_kept="0.1%")
accuracy = (ema.module.eval()(images[1500:]).argmax(1) == labels[1500:]).float().mean()
print(f"{report}\nsparsity {report.pruned / report.numel:.2%}, accuracy {accuracy:.1%}")
