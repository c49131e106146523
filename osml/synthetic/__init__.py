"""Synthetic cohorts with planted effects, for examples, tests and `osml synth`. Every file says that it is synthetic."""
