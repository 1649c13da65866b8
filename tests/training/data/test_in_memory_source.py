import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.no_waiting import noting_waits

from gpmt.training.data.in_memory_source import InMemorySource, SeriesSource, Split

CPU = torch.device("cpu")


def make(count=23, *, shape=(6, 5, 3), crop_padding=0, flip=False, mean=0.0, std=1 / 255):
    """Images whose label is their own number; with the default mean and std, floats equal the bytes."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (count, *shape), generator=generator, dtype=torch.uint8)
    images = Split(pixels, torch.arange(count))
    channels = shape[2]
    return InMemorySource(
        images,
        images,
        ("a",) * 10,
        (mean,) * channels,
        (std,) * channels,
        crop_padding=crop_padding,
        flip=flip,
    )


def epoch(source, batch_size=8, seed=(0, 1)):
    images, labels = zip(*source.train_batches(batch_size, seed=seed), strict=True)
    return torch.cat(images), torch.cat(labels)


def test_an_epoch_shows_every_image_once_in_an_order_of_the_seed_alone():
    source = make()
    images, labels = epoch(source)
    assert sorted(labels.tolist()) == list(range(23))
    assert torch.equal(images, source.train.samples[labels].permute(0, 3, 1, 2).float())
    again, same = epoch(source)
    assert torch.equal(labels, same)
    assert torch.equal(images, again)
    for seed in ((0, 2), (1, 1)):
        assert not torch.equal(labels, epoch(source, seed=seed)[1])


def test_batches_are_channels_last_and_normalised_per_channel():
    pixels = torch.randint(256, (4, 6, 6, 3), dtype=torch.uint8)
    images = Split(pixels, torch.arange(4))
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    source = InMemorySource(images, images, ("a",), mean, std)
    (batch, _), *rest = source.test_batches(4)
    assert rest == []
    assert batch.is_contiguous(memory_format=torch.channels_last)
    expected = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[
        :, None, None
    ]
    torch.testing.assert_close(batch, expected)


@settings(max_examples=30)
@given(padding=st.integers(0, 4), flip=st.booleans(), seed=st.integers(0, 1000))
def test_each_training_image_is_a_crop_of_the_reflected_image(padding, flip, seed):
    source = make(5, crop_padding=padding, flip=flip)
    images, labels = epoch(source, seed=(seed,))
    originals = source.train.samples.permute(0, 3, 1, 2).float()
    padded = F.pad(originals, (padding,) * 4, mode="reflect")
    for image, label in zip(images, labels, strict=True):
        windows = padded[label].unfold(1, 6, 1).unfold(2, 5, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        candidates = torch.cat([windows, windows.flip(3)]) if flip else windows
        assert (candidates == image).flatten(1).all(1).any()


def test_augmentation_draws_all_shifts_and_both_sides():
    source = make(2, shape=(5, 5, 1), crop_padding=1, flip=True)
    drawn = {image.numpy().tobytes() for number in range(300) for image in epoch(source, seed=(number,))[0]}
    assert len(drawn) == 2 * 3 * 3 * 2


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_each_batch_of_one_process(processes):
    whole = list(make(24, crop_padding=2, flip=True).train_batches(12, seed=(5,)))
    parts = [
        list(
            make(24, crop_padding=2, flip=True)
            .placed(CPU, rank=rank, processes=processes)
            .train_batches(12, seed=(5,))
        )
        for rank in range(processes)
    ]
    assert len(whole) == 2
    for number, (images, labels) in enumerate(whole):
        assert torch.equal(torch.cat([part[number][0] for part in parts]), images)
        assert torch.equal(torch.cat([part[number][1] for part in parts]), labels)


@pytest.mark.parametrize(
    ("count", "processes", "sizes"), [(17, 1, [8, 8]), (18, 1, [8, 8, 2]), (19, 2, [4, 4])]
)
def test_a_last_batch_too_small_to_share_is_left_out(count, processes, sizes):
    source = make(count).placed(CPU, rank=0, processes=processes)
    assert [len(labels) for _, labels in source.train_batches(8, seed=(0,))] == sizes


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_evaluation_sees_every_image_once_over_all_processes(processes):
    sources = [make(23).placed(CPU, rank=rank, processes=processes) for rank in range(processes)]
    labels = torch.cat([labels for source in sources for _, labels in source.test_batches(4)])
    assert sorted(labels.tolist()) == list(range(23))


@pytest.mark.parametrize(("count", "processes"), [(17, 1), (18, 1), (19, 2), (23, 3), (3, 2)])
def test_train_steps_counts_the_batches(count, processes):
    source = make(count).placed(CPU, rank=0, processes=processes)
    assert source.train_steps(8) == len(list(source.train_batches(8, seed=(0,))))


def test_plain_batches_are_the_same_images_in_every_process_without_augmentation():
    sources = [make(24, crop_padding=2, flip=True).placed(CPU, rank=r, processes=2) for r in range(2)]
    first, second = ([*source.plain_batches(4, images=10)] for source in sources)
    assert [len(labels) for _, labels in first] == [4, 4, 2]
    for (images, labels), (same, same_labels) in zip(first, second, strict=True):
        assert torch.equal(images, same)
        assert torch.equal(labels, same_labels)
        assert torch.equal(images, sources[0].train.samples[labels].permute(0, 3, 1, 2).float())
    labels = torch.cat([labels for _, labels in first])
    assert len(set(labels.tolist())) == 10
    assert labels.max() > 12, "the classes are mixed"
    assert sum(len(labels) for _, labels in sources[0].plain_batches(10, images=100)) == 24


def test_example_is_one_input_of_zeros():
    example = make(2).example()
    assert example.shape == (1, 3, 6, 5)
    assert not example.any()


def test_series_are_normalised_per_channel_and_keep_their_shape():
    generator = torch.Generator().manual_seed(0)
    split = Split(torch.randn(6, 4, 2, generator=generator), torch.arange(6))
    source = SeriesSource(split, split, ("a",), (1.0, -1.0), (2.0, 0.5))
    assert source.input_shape == (4, 2)
    assert source.example().shape == (1, 4, 2)
    ((series, labels),) = source.train_batches(6, seed=(0,))
    expected = (split.samples[labels] - torch.tensor([1.0, -1.0])) / torch.tensor([2.0, 0.5])
    torch.testing.assert_close(series, expected)


@pytest.mark.parametrize("kind", ["train", "test", "plain", "series"])
def test_batches_do_not_wait_for_the_device(kind):
    """All is on the device before the first batch, so that the next ones are prepared while it computes."""
    source = make(24, crop_padding=2, flip=True)
    if kind == "series":
        split = Split(torch.randn(24, 4, 2), torch.arange(24))
        source = SeriesSource(split, split, ("a",), (1.0, -1.0), (2.0, 0.5))
    source = source.placed(torch.device("meta"), rank=0, processes=1)
    batches = {
        "test": lambda: source.test_batches(8),
        "plain": lambda: source.plain_batches(8, images=24),
    }.get(kind, lambda: source.train_batches(8, seed=(0,)))()
    next(batches)
    with noting_waits() as found:
        assert [len(labels) for _, labels in batches] == [8, 8]
    assert not found
