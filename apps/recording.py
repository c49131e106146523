"""The audit log as the pages use it: what is done is recorded before anything of it is shown."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from osml.cohort.table import Table
from osml.serving import Model, RegionModel, Row
from osml.serving.launch import AUDIT_VARIABLE, AUTH_VARIABLE
from osml.serving.settings import NO_AUDIT

# Keys of the session that "Clear patient data" leaves alone: they say nothing about a patient.
KEPT = "kept "
_RECORDED = "recorded"


def user_name() -> str:
    """What the log calls the visitor: mail address or another name that the provider vouches for; "" of strangers."""
    if os.environ.get(AUTH_VARIABLE) != "required":
        return ""
    user = st.user.to_dict()
    names = (user.get(key) for key in ("email", "preferred_username", "name", "sub"))
    return next((str(name) for name in names if name), "")


class Told:
    """What an action tells the log: here the results of a prediction."""

    def __init__(self, taken: Any = None) -> None:
        self._taken = taken
        self.found: tuple[Table, list[Row]] | None = None

    def refuse(self, kind: str) -> None:
        """The action ended without what was asked for."""
        if self._taken is not None:
            self._taken.refuse(kind)

    def predicted(self, table: Table, rows: list[Row]) -> list[Row]:
        """Rows and how many have a prediction; returns the rows."""
        self.found = table, rows
        if self._taken is not None:
            self._taken.rows = len(rows)
            if not any(row.ok for row in rows):
                self._taken.refuse("NoPrediction")
        return rows


@contextmanager
def audited(action: str, model: Model | RegionModel | None = None, *sent: Any) -> Iterator[Told]:
    """Records what is done in the block; what it found may be shown only after the block.

    Use it inside `refusals()`: a log that cannot be written is an error that ends the page.

    Parameters
    ----------
    action : see `osml.serving.audit.Action`
    sent : what was sent, of which a keyed hash is kept: bytes, texts, mappings. The same table in the same session is
        recorded and counted once, because every click on the page runs it again.
    """
    url = os.environ.get(AUDIT_VARIABLE) or NO_AUDIT
    if url == NO_AUDIT:
        yield Told()
        return
    from osml.serving.audit import open_log

    log = open_log(url)
    entry = _entry(log, action, model, sent)
    same = (entry.action, entry.bundle, entry.predictor, entry.input_hash)
    done = st.session_state.setdefault(_RECORDED, set())
    if action == "predict table" and same in done:
        yield Told()
        return
    with log.recorded(entry) as taken:
        told = Told(taken)
        yield told
        if model is not None and told.found is not None:
            from osml.serving.drift import count

            count(log.engine, model, *told.found)
    done.add(same)


def note(action: str) -> None:
    """Records that something was done, which has no course of its own."""
    with audited(action):
        pass


def recorder(action: str, model: Model | RegionModel | None = None, *sent: Any) -> Any:
    """A context manager for later, outside the page's run: a download that is made when it is clicked, a slide that is
    segmented while other pages are open."""
    url = os.environ.get(AUDIT_VARIABLE) or NO_AUDIT
    if url == NO_AUDIT:
        return lambda: audited(action)
    from osml.serving.audit import open_log

    log = open_log(url)
    entry = _entry(log, action, model, sent)
    return lambda: log.recorded(entry)


def _entry(log: Any, action: str, model: Model | RegionModel | None, sent: Sequence[Any]) -> Any:
    from osml.serving.audit import Entry

    context = get_script_run_ctx()
    session = log.session_token("" if context is None else context.session_id)
    bundle, predictor = ("", "") if model is None else (model.bundle.model_hash, model.name)
    parts = [part for one in sent for part in _parts(one)]
    return Entry(action, user_name(), session, bundle, predictor, log.input_hash(*parts) if parts else "")


def _parts(sent: Any) -> list[bytes | str]:
    """Bytes and texts in a fixed order, whatever holds them."""
    if isinstance(sent, bytes | str):
        return [sent]
    if isinstance(sent, Mapping):
        return [part for key in sorted(sent) for part in (str(key), *_parts(sent[key]))]
    if isinstance(sent, list | tuple):
        return [str(len(sent)), *(part for one in sent for part in _parts(one))]
    return [json.dumps(sent)]
