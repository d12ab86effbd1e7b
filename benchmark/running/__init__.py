"""From a request to results: the grid of jobs, their processes, and what each process does."""
