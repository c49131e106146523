"""Judging: discrimination, calibration, utility, resampling, tables, sample size. Fitting is in `osml.stats`."""
