"""Predictors: thin adapters of models to one contract, `fit(design) -> Fitted`, and one explicit registry."""
