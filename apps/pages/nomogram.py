"""The nomogram: on screen, with the patient's lines, as PDF, and as a calculator."""

from __future__ import annotations

import patient
import streamlit as st
from frame import current_model, download, heading, plain, refusals

from osml.nomogram import calculator, draw  # noqa: F401
