"""Hugging Face Trainer: one callback prunes epoch by epoch to 80 %; --resume goes on from the last checkpoint.

Each checkpoint of the Trainer has one more file, pruner.pt.
"""

import sys

import torch
from sklearn.datasets import load_digits
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments, set_seed

import gpmt
from gpmt.integrations.transformers import PruningCallback

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
data = [{"pixel_values": image, "labels": label} for image, label in zip(images, digits.target, strict=True)]

set_seed(0)
sizes = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}
model = ResNetForImageClassification(ResNetConfig(num_channels=1, num_labels=10, **sizes))
settings = {"num_train_epochs": 10, "per_device_train_batch_size": 100, "learning_rate": 0.02}
trainer = Trainer(
    model,
    TrainingArguments("runs/hf", save_strategy="epoch", **settings),
    train_dataset=data[:1500],
    eval_dataset=data[1500:],
    compute_metrics=lambda result: {"accuracy": (result.predictions.argmax(1) == result.label_ids).mean()},
    callbacks=[PruningCallback(schedule=gpmt.Gradual(0.8, end=7, unit="epoch"), min_kept="0.5%")],
)
trainer.train(resume_from_checkpoint="--resume" in sys.argv)

report = gpmt.verify(model, sparsity=0.8, min_kept="0.5%")
accuracy = trainer.evaluate()["eval_accuracy"]
print(f"{report}\nsparsity {report.pruned / report.numel:.2%}, accuracy {accuracy:.1%}")
trainer.accelerator.end_training()  # of several processes: their group ends before they do
