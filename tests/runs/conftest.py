"""Small studies on disk for the tests beside this file."""

from small_studies import no_sheets, small_study

__all__ = ["no_sheets", "small_study"]
