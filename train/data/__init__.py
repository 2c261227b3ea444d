"""Batches for the training loop: a small dataset on the device, or images streamed from disk."""
