"""`predictors: auto`: from inputs, sample size and machine to a plan of candidates that can be read and edited."""
