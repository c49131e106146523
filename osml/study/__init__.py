"""One study from schema to result: the only place that walks a schema through cohort, predictors and evaluation."""
