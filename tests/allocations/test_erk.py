import gpmt


def test_erk_keeps_in_proportion_to_the_sum_of_dimensions(network):
    plan = gpmt.plan(network, sparsity=0.9, allocation="erk")
    partly_pruned = [row for row in plan.tensors if row.kept < row.numel]
    scales = [row.kept / sum(row.shape) for row in partly_pruned]
    assert len(partly_pruned) >= 2
    assert max(scales) - min(scales) < 1 / min(sum(row.shape) for row in partly_pruned)
    whole = [row for row in plan.tensors if row.kept == row.numel]
    assert all(row.numel <= max(scales) * sum(row.shape) + 1 for row in whole)
