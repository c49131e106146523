"""Synthetic cohorts with planted effects, for examples, tests and `osml synth`. Every output says so."""
