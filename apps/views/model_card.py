"""The model's card: what it is, for whom, how it was made, what is known against it."""

from __future__ import annotations

import re

import streamlit as st
from frame import current_model, current_region, current_results, download, heading, show_facts

from osml.serving import fact_rows, region_rows

region = current_region()
model = current_model() if region is None else region
heading("Model card", model)
results = current_results()
card = results.model_card() if results is not None else None
show_facts(fact_rows(current_model()) if region is None else region_rows(region))
if card is not None:
    st.divider()
    st.markdown(re.sub(r"(?m)^> ?", "", card))  # quoted lines are drawn too faint to read
    download("Model card (Markdown)", card, "model_card.md", "text/markdown")
