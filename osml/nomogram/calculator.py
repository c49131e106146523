"""One self-contained HTML file that computes and draws: no network, the library's probability to 1e-9."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from scipy.special import ndtri

from osml.nomogram import words
from osml.nomogram.algebra import Nomogram
from osml.nomogram.canvas import Page
from osml.nomogram.chart import make_chart
from osml.nomogram.components import Component
from osml.nomogram.fonts import FontSet
from osml.nomogram.metadata import NOTICE
from osml.nomogram.outcome_axis import shown
from osml.nomogram.rows import segments, spare_points
from osml.nomogram.serialise import to_dict
from osml.nomogram.svg import svg_text
from osml.nomogram.theme import page_style, theme_colours


def calculator(nomogram: Nomogram, *, fonts: Sequence[str | Path] = ()) -> str:
    """The calculator as HTML text; the same nomogram gives the same bytes.

    No input has a value until the reader gives one; "not known" is offered only where the model allows it; values
    outside the printed axes are computed and called extrapolated.
    """
    fontset = FontSet(fonts)
    style = page_style("a4")
    page = make_chart(nomogram, style, fontset, None, grow=True).pages[0]
    script = _asset("calculator.js")
    css = _asset("calculator.css")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    data = json.dumps(_data(nomogram, page), sort_keys=True, ensure_ascii=False, allow_nan=False)
    # Inside <script> nothing is an entity: no label may end the element or open a comment.
    data = data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    banners = "".join(f"<li>{escape(text)}</li>" for text in words.banners(nomogram))
    footer = words.footer(nomogram)
    parts = {
        "policy": escape(policy),
        "title": escape(words.title(nomogram)),
        "first": escape(words.first_line(nomogram)),
        "banners": f"<ul class='banners'>{banners}</ul>" if banners else "",
        "css": css,
        "chart": svg_text(page, fontset, theme_colours("print")),
        "provenance": escape(footer),
        "notice": escape(NOTICE),
        "data": data,
        "script": script,
    }
    out = _asset("calculator.html")
    pieces = out.split("%%")
    if len(pieces) % 2 == 0:
        raise AssertionError("calculator.html has an unclosed placeholder")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def _asset(name: str) -> str:
    return files("osml.nomogram").joinpath(name).read_text(encoding="utf-8")


def _data(nomogram: Nomogram, page: Page) -> dict[str, Any]:
    assert page.geometry is not None
    full = to_dict(nomogram)
    outcome = full["outcome"] | {
        "names": list(nomogram.outcome.names),
        "shown": [shown(nomogram, j) for j in range(len(nomogram.outcome.names))],
    }
    interval = full["interval"]
    if interval is not None and nomogram.interval is not None:
        interval = interval | {"words": nomogram.interval.words, "z": float(ndtri(0.5 + nomogram.interval.level / 2))}
    predictors = [p | {"title": q.title} for p, q in zip(full["predictors"], nomogram.predictors, strict=True)]
    return {
        "outcome": outcome,
        "predictors": predictors,
        "terms": full["model"]["terms"],
        "coef": full["model"]["coef"],
        "intercept": full["model"]["intercept"],
        "covariance": full["model"]["covariance"],
        "interval": interval,
        "scale": nomogram.scale,
        "components": [_component(nomogram, c, page) for c in nomogram.components],
        "geometry": asdict(page.geometry),
    }


def _component(nomogram: Nomogram, component: Component, page: Page) -> dict[str, Any]:
    assert page.geometry is not None
    spare = spare_points(page.geometry.x1 - page.geometry.x0)
    axes = []
    for axis in component.axes:
        number = nomogram.predictor(axis.input).kind == "number"
        parts = segments(nomogram, component, axis, spare) if number else []
        axes.append(
            {
                "key": axis.key,
                "input": axis.input,
                "settings": dict(axis.settings),
                "parts": [{"high": s.high, "line": s.line} for s in parts],
            }
        )
    return {
        "inputs": list(component.inputs),
        "terms": list(component.terms),
        "minimum": component.minimum,
        "axes": axes,
    }
