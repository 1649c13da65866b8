"""Reports of pruning: what runs, plans, sweeps and files tell, as figures and as a page."""
