"""The parts of `train.sweep`: job file, state of runs, queue, its display, and archives of results."""
