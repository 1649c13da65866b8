import gpmt


def test_uniform_gives_every_tensor_the_same_density(network):
    plan = gpmt.plan(network, sparsity=0.75, allocation="uniform")
    assert all(abs(row.kept - row.numel / 4) <= 1 for row in plan.tensors)
