import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from tests.training.no_waiting import noting_waits

from gpmt.training.run.score import Meter, Score


def score(logits, labels, batches, losses=None):
    accelerator = Accelerator(cpu=True)
    meter = Meter(accelerator.device, num_classes=logits.shape[1])
    for part in torch.arange(len(labels)).split(batches):
        meter.add(logits[part], labels[part], None if losses is None else losses[part].mean())
    return meter.score(accelerator)


def test_means_over_batches_of_unequal_size_equal_those_over_all():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 8, generator=generator)
    labels = torch.randint(8, (50,), generator=generator)
    found = score(logits, labels, [7, 20, 23])
    ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
    assert found.top1 == (ranks < 1).double().mean()
    assert found.top5 == (ranks < 5).double().mean()
    assert abs(found.loss - F.cross_entropy(logits, labels).item()) < 1e-6
    assert found.images == 50


def test_the_loss_can_be_given():
    logits, losses = torch.zeros(10, 6), torch.arange(10.0)
    assert score(logits, torch.zeros(10, dtype=torch.int64), [3, 7], losses).loss == 4.5


def test_top5_of_five_classes_is_left_out():
    found = score(torch.eye(5), torch.arange(5), [5])
    assert found.top5 is None
    assert found.top1 == 1


def test_a_score_reads_in_percent():
    assert str(Score(0.51, 0.9173, 0.997, 100)) == "top-1 91.73%, top-5 99.70%, loss 0.5100"
    assert str(Score(0.51, 0.9173, None, 100)) == "top-1 91.73%, loss 0.5100"


def test_counting_a_batch_does_not_wait_for_the_device():
    meter = Meter(torch.device("meta"), num_classes=6)
    logits, labels = torch.zeros(10, 6, device="meta"), torch.zeros(10, dtype=torch.int64, device="meta")
    with noting_waits() as found:
        meter.add(logits, labels)
        meter.add(logits, labels, logits.sum())
    assert not found


@pytest.mark.gpu
def test_counting_a_batch_on_a_gpu_does_not_wait_for_it():
    accelerator = Accelerator()
    meter = Meter(accelerator.device, num_classes=6)
    logits, labels = torch.eye(6).cuda(), torch.arange(6).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        meter.add(logits, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert meter.score(accelerator).images == 6
