"""The report of a run: one HTML page, its figures and tables, and the model card; made from the run folder alone."""

from osml.report.make import make_report

__all__ = ["make_report"]
