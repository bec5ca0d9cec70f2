"""Sweeps: their cells, the pool of processes, the closing table."""
