"""What `train.sweep` is made of: the job file, the state of runs, the queue, its table, archives of results."""
