"""Scores: what ranks the weights of a network, one tensor for each prunable tensor; the smallest are pruned first."""
