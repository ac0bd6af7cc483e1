"""The project's own benchmarks: everything measured on this machine in one run, and as ratios."""
