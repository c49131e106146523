"""The HTML calculator as a file: self-contained, escaped, closed to injected scripts, the same bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

from nomogram_models import birthwt, interaction_model, lung

from osml.nomogram import LogisticOutcome, Predictor, build, calculator, from_coefficients, from_json, to_json
from osml.nomogram.metadata import NOTICE

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)> & \"quotes\""


class Tags(HTMLParser):
    """Collects tags with their attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


def hostile() -> str:
    predictors = [
        Predictor("x", low=0, high=1, label=HOSTILE, unit="<b>", definition="--><!--"),
        Predictor("g", "category", levels=("a", "</select><script>alert(2)</script>")),
    ]
    n = from_coefficients(
        {"Intercept": 0.0, "x": 1.0, f"g={predictors[1].levels[1]}": 1.0},
        predictors,
        LogisticOutcome("<event>"),
        metadata={"title": HOSTILE, "centre": HOSTILE, "warnings": [HOSTILE], "provenance": {"model": "</footer>"}},
    )
    return calculator(n)


def test_labels_cannot_add_elements() -> None:
    ours, theirs = Tags(calculator(birthwt())), Tags(hostile())
    assert [t for t, _ in theirs.found].count("script") == 2 == [t for t, _ in ours.found].count("script")
    assert "img" not in [t for t, _ in theirs.found]
    assert not any(name.startswith("on") for _, attributes in theirs.found for name in attributes)
    data = json.loads(theirs.scripts[0])
    assert data["predictors"][0]["label"] == HOSTILE
    assert theirs.scripts[1] == ours.scripts[1]


def test_the_policy_allows_only_our_script_and_no_network() -> None:
    tags = Tags(calculator(birthwt()))
    policy = next(a["content"] for t, a in tags.found if t == "meta" and a.get("http-equiv"))
    assert policy is not None
    digest = base64.b64encode(hashlib.sha256(tags.scripts[1].encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert "connect-src" not in policy


def test_nothing_is_fetched() -> None:
    text = calculator(birthwt())
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", text)
    assert set(re.findall(r"https?://[^\s\"'<)]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|eval\(|innerHTML", text)


def test_the_notice_and_the_document_language_are_there() -> None:
    text = calculator(birthwt())
    assert f'<p class="notice">{NOTICE}</p>' in text
    assert '<html lang="en">' in text


def test_the_same_nomogram_gives_the_same_bytes() -> None:
    for n in (birthwt(), lung(), build(*interaction_model(), LogisticOutcome("e"))):
        assert calculator(n) == calculator(from_json(to_json(n)))


def test_the_data_hold_the_whole_model() -> None:
    n = birthwt()
    data = json.loads(Tags(calculator(n)).scripts[0])
    assert data["coef"] == n.model.coef.tolist()
    assert data["scale"] == n.scale
    assert [c["minimum"] for c in data["components"]] == [c.minimum for c in n.components]
