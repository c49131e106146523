"""The app. Started by `osml app RUN`; everything it shows is computed by osml."""

from __future__ import annotations

import streamlit as st
from frame import choose_model
from guard import require_login
from patient import clear_button, keep_answers
from training import arriving

from osml.serving import RegionModel
from osml.serving.launch import button_style

st.set_page_config(page_title="osml", layout="wide")
st.html(button_style())
require_login()
model = choose_model()
st.session_state["model"] = model
clear_button()
keep_answers()
train = st.Page("views/train.py", title="Train", default=model is None)
# Not in a folder called `pages`: until a session's second run Streamlit would open such files without this one.
cohort, card = st.Page("views/cohort.py", title="Cohort"), st.Page("views/model_card.py", title="Model card")
performance = st.Page("views/performance.py", title="Performance")
if model is None:
    pages = [train]  # nothing is published yet
elif isinstance(model, RegionModel):
    pages = [st.Page("views/slides.py", title="Slides", default=True), performance, cohort, card, train]
else:
    pages = [
        st.Page("views/predict.py", title="Predict", default=True),
        st.Page("views/nomogram.py", title="Nomogram"),
        performance,
        st.Page("views/explain.py", title="Explain"),
        cohort,
        st.Page("views/slides.py", title="Slides"),
        st.Page("views/drift.py", title="Drift"),
        card,
        train,
    ]
page = st.navigation(pages)
if pages[0] is not train and page.title == pages[0].title and arriving():
    st.switch_page(train)
page.run()
