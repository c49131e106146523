"""Fitting: pure numpy and scipy, arrays in, small frozen results out, no I/O. Judging is in `osml.evaluation`."""
