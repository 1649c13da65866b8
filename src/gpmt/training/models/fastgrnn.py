"""FastGRNN, a small gated recurrent network for sensor series (Kusupati et al. 2018, arXiv 1901.02358)."""

import torch
from torch import Tensor, nn


class FastGRNN(nn.Module):
    """One FastGRNN layer with low-rank weights, and a classifier on its last hidden state.

    With s = W x_t + U h_{t-1}, shared by gate and candidate (section 3.2 of the paper):

        z_t = σ(s + b_z),  c_t = tanh(s + b_h),  h_t = (ζ (1 − z_t) + ν) ∘ c_t + z_t ∘ h_{t-1}

    where ζ and ν are sigmoids of one parameter each. W = W1 W2ᵀ and U = U1 U2ᵀ, so that column r of W1 (of
    U1) is all that component r of the rank gives to the hidden units: without the column, the rank is one less.

    Tensors: W1.weight [hidden, w_rank], W2.weight [w_rank, features], U1.weight [hidden, u_rank], U2.weight
    [u_rank, hidden]; bias_gate and bias_update [hidden]; zeta and nu [1]; linear.

    Args:
        num_classes: number of logits.
        input_shape: (steps, features), such as (128, 9) for the accelerometers and gyroscopes of UCI HAR.
        hidden: size of the hidden state.
        w_rank: rank of W; by default full, the number of features.
        u_rank: rank of U; by default full, `hidden`.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        input_shape: tuple[int, ...],
        hidden: int = 80,
        w_rank: int | None = None,
        u_rank: int | None = None,
    ) -> None:
        super().__init__()
        features = input_shape[-1]
        w_rank, u_rank = w_rank or features, u_rank or hidden
        self.W1 = nn.Linear(w_rank, hidden, bias=False)
        self.W2 = nn.Linear(features, w_rank, bias=False)
        self.U1 = nn.Linear(u_rank, hidden, bias=False)
        self.U2 = nn.Linear(hidden, u_rank, bias=False)
        self.bias_gate = nn.Parameter(torch.ones(hidden))
        self.bias_update = nn.Parameter(torch.ones(hidden))
        # One value each, but not scalars, which sharded training does not take.
        self.zeta = nn.Parameter(torch.ones(1))
        self.nu = nn.Parameter(torch.full((1,), -4.0))
        self.linear = nn.Linear(hidden, num_classes)
        for factor in (self.W1, self.W2, self.U1, self.U2):
            nn.init.normal_(factor.weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map series [n, steps, features] to logits [n, num_classes]."""
        # What does not depend on the hidden state is computed for all steps at once.
        inputs = self.W1(self.W2(x.transpose(0, 1)))  # [steps, n, hidden]
        gates, updates = (inputs + self.bias_gate).unbind(), (inputs + self.bias_update).unbind()
        zeta, nu = self.zeta.sigmoid(), self.nu.sigmoid()
        h = inputs.new_zeros(inputs.shape[1:])
        for gate, update in zip(gates, updates, strict=True):
            recurrent = self.U1(self.U2(h))
            z, candidate = (gate + recurrent).sigmoid(), (update + recurrent).tanh()
            h = (zeta * (1 - z) + nu) * candidate + z * h
        logits: Tensor = self.linear(h)
        return logits
