"""Lightning: one callback prunes epoch by epoch to 90 %; --resume goes on from the last checkpoint.

The state of the callback is part of Lightning's own checkpoint.
"""

import sys

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gpmt
from gpmt.integrations.lightning import PruningCallback


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


lightning.seed_everything(0)
images, labels = map(torch.tensor, load_digits(return_X_y=True))
images, model = images.float() / 16, Classifier()
loader = DataLoader(TensorDataset(images[:1500], labels[:1500]), batch_size=100, shuffle=True)
pruning = PruningCallback(schedule=gpmt.Gradual(0.9, end=15, unit="epoch"), min_kept="1%")
checkpoints = ModelCheckpoint("runs/lightning", save_last=True)
trainer = lightning.Trainer(max_epochs=20, callbacks=[pruning, checkpoints], logger=False)
trainer.fit(model, loader, ckpt_path="last" if "--resume" in sys.argv else None)

report = gpmt.verify(model, sparsity=0.9, min_kept="1%")
accuracy = (model.net(images[1500:]).argmax(1) == labels[1500:]).float().mean()
print(f"{report}\nsparsity {report.pruned / report.numel:.2%}, accuracy {accuracy:.1%}")
