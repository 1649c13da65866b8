"""What each of two processes runs in `test_processes.py`: Lightning with DistributedDataParallel."""

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gpmt
from gpmt.integrations.lightning import PruningCallback


class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 10))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def main():
    module = Module()  # other weights on each rank: DistributedDataParallel makes them equal
    torch.manual_seed(0)
    loader = DataLoader(
        TensorDataset(torch.randn(64, 10), torch.randint(10, (64,))), batch_size=4, shuffle=True
    )
    pruning = PruningCallback(schedule=gpmt.Gradual(0.9, end=3, unit="epoch"), min_kept=5)
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=4,
        callbacks=[pruning],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    print(gpmt.verify(module, sparsity=0.9, min_kept=5))
    assert pruning.pruner is not None
    print(f"{pruning.pruner.step_count} steps, masks {pruning.pruner.masks.digest()}")


if __name__ == "__main__":
    main()
