"""Nothing is shown before the login, where logins are required."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import streamlit as st
from frame import plain, refusals
from recording import KEPT, note, user_name

from osml.nomogram.metadata import NOTICE
from osml.serving.launch import AUTH_VARIABLE, HOURS_VARIABLE

_LOGGED_IN = f"{KEPT}login"


def require_login() -> None:
    """Where logins are required, ends the page for everybody who has not logged in, or did so too long ago."""
    if os.environ.get(AUTH_VARIABLE) != "required":
        return
    user = st.user.to_dict()
    late = _hours_ago(user) > float(os.environ.get(HOURS_VARIABLE) or 12)
    if user.get("is_logged_in") is not True or late:
        st.markdown(f"**{plain(NOTICE)}**")
        st.title("Log in")
        if user.get("is_logged_in") is True:
            st.info("Your login has run out. Log in again.")
        st.button("Log in", on_click=st.login, type="primary")
        st.stop()
    st.sidebar.markdown(f"Logged in as {plain(user_name())}")
    st.sidebar.button("Log out", on_click=st.logout)
    if _LOGGED_IN not in st.session_state:
        with refusals():
            note("login")
        st.session_state[_LOGGED_IN] = True


def _hours_ago(user: Mapping[str, Any]) -> float:
    """Hours since the provider said who this is; endless where it does not say when."""
    issued = user.get("iat")
    return (time.time() - issued) / 3600 if isinstance(issued, int | float) else float("inf")
