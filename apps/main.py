"""The app. Started by `osml app RUN`; everything it shows is computed by osml."""

from __future__ import annotations

import streamlit as st
from frame import choose_model
from patient import clear_button, keep_answers

st.set_page_config(page_title="osml", layout="wide")
model = choose_model()
st.session_state["model"] = model
clear_button()
keep_answers()
page = st.navigation(
    [
        st.Page("pages/predict.py", title="Predict", default=True),
        st.Page("pages/nomogram.py", title="Nomogram"),
        st.Page("pages/performance.py", title="Performance"),
        st.Page("pages/explain.py", title="Explain"),
        st.Page("pages/cohort.py", title="Cohort"),
        st.Page("pages/model_card.py", title="Model card"),
    ]
)
page.run()
