"""A lottery ticket: iterative magnitude pruning with rewinding (Frankle et al. 2020, arXiv 1912.05671).

Each round trains under the masks so far, prunes 40 % of the weights that are left, and rewinds those that stay to
their values of an early step. (The paper prunes 20 %, in more rounds.)
"""

import copy

import torch
from sklearn.datasets import load_digits
from torch import nn

import gpmt

images, labels = map(torch.tensor, load_digits(return_X_y=True))
images = images.float() / 16


def train(steps, masks):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    gpmt.Pruner(model, optimizer, masks=masks)  # for as long as there is this optimiser
    for step in steps:
        batch = torch.randint(1500, [100], generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
masks = gpmt.Masks.of(model)  # of a new network: all weights
train(range(20), masks)
early = copy.deepcopy(model.state_dict())
for sparsity in [1 - 0.6**level for level in range(6)]:
    ticket = gpmt.plan(model, sparsity=sparsity, min_kept="1%").masks()
    assert ticket <= masks  # what was pruned stays pruned
    masks = ticket
    model.load_state_dict(early)
    train(range(20, 200), masks)
    report = gpmt.verify(model, sparsity=sparsity, masks=masks)
    accuracy = (model(images[1500:]).argmax(1) == labels[1500:]).float().mean()
    print(f"sparsity {report.pruned / report.numel:.2%}, accuracy {accuracy:.1%}")
print(report)
