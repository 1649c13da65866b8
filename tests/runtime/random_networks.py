"""Small random networks for hypothesis: convolutions, pools, sums, heads and what stays on PyTorch, in any order."""

import torch
from hypothesis import strategies as st
from tests.runtime.networks import noise
from torch import nn
from torch.nn import functional as F

SMALL = st.integers(1, 9)
ACTIVATIONS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": F.hardtanh,
    "gelu": F.gelu,
    "swish": lambda x: x * x.sigmoid(),
    "six": lambda x: x * F.relu6(x + 3) / 6,
}


class RandomNetwork(nn.Module):
    """Steps (a text that shows what they do, a function of the network and of all values so far, which adds one)."""

    def __init__(self):
        super().__init__()
        self.steps = []
        self.parts = nn.ModuleList()
        self.outputs = []

    def forward(self, *inputs):
        values = list(inputs)
        for _, step in self.steps:
            values.append(step(values))
        return [values[i] for i in self.outputs]

    def __repr__(self):
        lines = [f"  {text}" for text, _ in self.steps]
        return "\n".join(["network(", *lines, f"  returns {self.outputs}", ")"])


@st.composite
def networks(draw, most=8, kinds=None):
    """Draw a network in evaluation mode and inputs for it."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1 << 30)))
    batch = draw(st.sampled_from([1, 1, 2, 3, 5, 17]))
    builder = _Builder(draw, generator, batch)
    for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
        size = draw(st.tuples(st.integers(1, 21), st.integers(1, 40)))
        builder.shapes.append((batch, draw(SMALL), *size))
    inputs = [torch.randn(shape, generator=generator) for shape in builder.shapes]
    for _ in range(draw(st.integers(1, most))):
        builder.step(kinds)
    network, count = builder.network, len(builder.shapes)
    network.outputs = [count - 1, *draw(st.lists(st.integers(0, count - 1), max_size=2))]
    return network.eval(), inputs


class _Builder:
    def __init__(self, draw, generator, batch):
        self.draw, self.generator, self.batch = draw, generator, batch
        self.network = RandomNetwork()
        self.shapes = []

    def step(self, kinds=None):
        """Add a step of a kind that some value allows; newer values are likelier."""
        source = self._value(range(len(self.shapes)))
        shape = self.shapes[source]
        if len(shape) == 4:
            kinds = kinds or [
                "conv", "conv", "conv", "pointwise", "depthwise", "norm", "activation", "sum", "sum", "concat",
                "pool", "pool", "adaptive", "mean", "flatten", "gate", "scale", "slice", "pad", "last", "shuffle",
                "product", "upsample", "parts",
            ]  # fmt: skip
        else:
            kinds = ["linear", "linear", "vector_activation", "vector_norm", "vector_sum", "image", "split"]
        getattr(self, f"_{self.draw(st.sampled_from(kinds))}")(source, shape)

    def _value(self, choices):
        """Draw one of the values, the latest by default."""
        choices = list(choices)
        return choices[-1 - self.draw(st.integers(0, len(choices) - 1))]

    def _of_shape(self, shape):
        return [i for i, other in enumerate(self.shapes) if other == shape]

    def _add(self, text, function):
        example = [torch.zeros(shape) for shape in self.shapes]
        with torch.no_grad():
            self.network.eval()
            shape = tuple(function(example).shape)
        self.network.steps.append((f"{len(self.shapes)}: {text} -> {list(shape)}", function))
        self.shapes.append(shape)

    def _part(self, source, part):
        """Add a module with random weights that keep values of about the same size."""
        with torch.no_grad():
            for name, tensor in [*part.named_parameters(), *part.named_buffers()]:
                if name == "num_batches_tracked":
                    continue
                if name == "running_var" or (name == "weight" and tensor.ndim == 1):
                    tensor.uniform_(0.5, 1.5, generator=self.generator)
                elif tensor.ndim > 1:
                    tensor.normal_(0, 1, generator=self.generator)
                    density = self.draw(st.sampled_from([1.0, 0.5, 0.2, 0.1, 0.02, 0.0]))
                    tensor *= torch.rand(tensor.shape, generator=self.generator) < density
                    tensor /= max(1.0, density * tensor[0].numel()) ** 0.5
                else:
                    tensor.normal_(0, 0.3, generator=self.generator)
        self.network.parts.append(part)
        self._add(f"{part} of {source}", lambda values: part(values[source]))

    def _conv(self, source, shape):
        draw = self.draw
        channels, size = shape[1], shape[2:]
        kernel = draw(st.tuples(*[st.sampled_from([1, 2, 3, 3, 4, 5, 7])] * 2))
        dilation = draw(st.tuples(*[st.sampled_from([1, 1, 1, 2, 3])] * 2))
        padding = draw(st.tuples(*[st.sampled_from([0, 1, 1, 2, 3, 5])] * 2))
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        padding = tuple(max(p, -(-(r - s) // 2)) for p, r, s in zip(padding, reach, size, strict=True))
        stride = draw(st.sampled_from([(1, 1), (1, 1), (1, 1), (2, 2), (2, 2), (1, 2), (3, 1), (4, 4)]))
        groups = draw(st.sampled_from([1, 1, 1, *(g for g in range(2, channels + 1) if channels % g == 0)]))
        filters = groups * draw(st.integers(1, 3 if groups > 1 else 12))
        bias = draw(st.booleans())
        self._part(
            source, nn.Conv2d(channels, filters, kernel, stride, padding, dilation, groups=groups, bias=bias)
        )

    def _pointwise(self, source, shape):
        self._part(
            source, nn.Conv2d(shape[1], self.draw(st.integers(1, 20)), 1, bias=self.draw(st.booleans()))
        )

    def _depthwise(self, source, shape):
        draw = self.draw
        kernel, stride = draw(st.sampled_from([3, 5])), draw(st.sampled_from([1, 1, 2, 3]))
        dilation = draw(st.sampled_from([1, 1, 2]))
        filters = shape[1] * draw(st.sampled_from([1, 1, 2]))
        self._part(
            source,
            nn.Conv2d(shape[1], filters, kernel, stride, dilation * (kernel // 2), dilation, groups=shape[1]),
        )

    def _norm(self, source, shape):
        self._part(source, nn.BatchNorm2d(shape[1], affine=self.draw(st.booleans())))

    def _vector_norm(self, source, shape):
        if len(shape) == 2:
            self._part(source, nn.BatchNorm1d(shape[1]))

    def _activation(self, source, shape):
        name = self.draw(st.sampled_from(sorted(ACTIVATIONS)))
        self._add(f"{name} of {source}", lambda values: ACTIVATIONS[name](values[source]))

    _vector_activation = _activation

    def _sum(self, source, shape):
        other = self._value(self._of_shape(shape))
        self._add(f"{source} + {other}", lambda values: values[source] + values[other])

    def _product(self, source, shape):
        other = self._value(self._of_shape(shape))
        self._add(f"{source} * {other}", lambda values: values[source] * values[other])

    def _concat(self, source, shape):
        candidates = [i for i, s in enumerate(self.shapes) if len(s) == 4 and s[2:] == shape[2:]]
        others = [self._value(candidates) for _ in range(self.draw(st.integers(1, 3)))]
        if sum(self.shapes[i][1] for i in [source, *others]) <= 40:
            self._add(
                f"concat {[source, *others]}",
                lambda values: torch.cat([values[i] for i in [source, *others]], 1),
            )

    def _pool(self, source, shape):
        draw = self.draw
        kernel = [draw(st.integers(1, min(4, s))) for s in shape[2:]]
        stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        padding = [draw(st.integers(0, k // 2)) for k in kernel]
        rounded = draw(st.booleans())
        if draw(st.booleans()):
            part = nn.MaxPool2d(kernel, stride, padding, ceil_mode=rounded)
        else:
            part = nn.AvgPool2d(kernel, stride, padding, rounded, draw(st.booleans()))
        self._part(source, part)

    def _adaptive(self, source, shape):
        size = [self.draw(st.integers(1, min(s, 4))) for s in shape[2:]]
        part = self.draw(st.sampled_from([nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d]))
        self._part(source, part(tuple(size)))

    def _mean(self, source, shape):
        keep = self.draw(st.booleans())
        self._add(f"mean of {source}, keep {keep}", lambda values: values[source].mean((2, 3), keepdim=keep))

    def _flatten(self, source, shape):
        if shape[1] * shape[2] * shape[3] <= 3000:
            self._add(f"flatten {source}", lambda values: values[source].flatten(1))

    def _last(self, source, shape):
        """Linear over the last dimension of an image, or over its channels, moved there."""
        outputs = self.draw(SMALL)
        if self.draw(st.booleans()):
            self._part(source, nn.Linear(shape[3], outputs))
        else:
            self._add(f"permute {source}", lambda values: values[source].permute(0, 2, 3, 1))
            self._part(len(self.shapes) - 1, nn.Linear(shape[1], outputs))

    def _linear(self, source, shape):
        self._part(source, nn.Linear(shape[-1], self.draw(st.integers(1, 20)), bias=self.draw(st.booleans())))

    _vector_sum = _sum

    def _image(self, source, shape):
        if len(shape) == 2:
            self._add(f"{source}[:, :, None, None]", lambda values: values[source][:, :, None, None])

    def _split(self, source, shape):
        """Another shape of the same elements."""
        if len(shape) == 2 and shape[1] % 2 == 0:
            self._add(f"{source} in two", lambda values: values[source].unflatten(1, (2, -1)))
        elif len(shape) > 2:
            self._add(f"flatten {source}", lambda values: values[source].flatten(1))

    def _gate(self, source, shape):
        """Squeeze and excitation."""
        part = nn.Conv2d(shape[1], shape[1], 1)
        self.network.parts.append(part)
        gate = self.draw(st.sampled_from([torch.sigmoid, F.hardsigmoid]))
        self._add(
            f"squeeze and excitation of {source}",
            lambda values: values[source] * gate(part(F.adaptive_avg_pool2d(values[source], 1))),
        )

    def _scale(self, source, shape):
        number = self.draw(st.sampled_from([0.5, -1.5, 1.0]))
        way = self.draw(st.sampled_from(["times", "plus", "minus"]))
        functions = {
            "times": lambda values: values[source] * number,
            "plus": lambda values: number + values[source],
            "minus": lambda values: number - values[source],
        }
        self._add(f"{source} {way} {number}", functions[way])

    def _slice(self, source, shape):
        way = self.draw(st.sampled_from(["rows", "columns", "both", "channels"]))
        half = max(1, shape[1] // 2)
        functions = {
            "rows": lambda values: values[source][:, :, ::2],
            "columns": lambda values: values[source][:, :, :, ::2],
            "both": lambda values: values[source][:, :, ::2, ::2],
            "channels": lambda values: values[source][:, :half],
        }
        self._add(f"{way} of {source}", functions[way])

    def _parts(self, source, shape):
        """Some of the channels, or all of them in another order."""
        if shape[1] == 1:
            return
        first = self.draw(st.integers(1, shape[1] - 1))
        if self.draw(st.booleans()):
            self._add(f"end of {source} from {first}", lambda values: values[source][:, first:])
        else:
            self._add(
                f"{source} turned at {first}",
                lambda values: torch.cat(values[source].split([first, shape[1] - first], 1)[::-1], 1),
            )

    def _upsample(self, source, shape):
        factor = self.draw(st.tuples(st.sampled_from([1, 2, 3, 4]), st.sampled_from([1, 2, 4])))
        if shape[1] * shape[2] * shape[3] * factor[0] * factor[1] <= 30_000:
            self._part(source, nn.Upsample(scale_factor=factor))

    def _pad(self, source, shape):
        sizes = self.draw(st.lists(st.integers(0, 2), min_size=4, max_size=4))
        self._add(f"pad {source} by {sizes}", lambda values: F.pad(values[source], sizes))

    def _shuffle(self, source, shape):
        if shape[1] % 2 == 0:
            self._part(source, nn.ChannelShuffle(2))


def more(inputs, batch, seed=0):
    """Return other inputs of another batch."""
    return [noise(batch, *tensor.shape[1:], seed=seed + i) for i, tensor in enumerate(inputs)]


def exact(network, inputs):
    """Return what the network gives in float64; its weights are afterwards the same float32 values."""
    with torch.no_grad():
        try:
            return network.double()(*[tensor.double() for tensor in inputs])
        finally:
            network.float()
