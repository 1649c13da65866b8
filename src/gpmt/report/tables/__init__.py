"""Tables for papers: results of sweeps and comparisons, and the blocks of a network."""
