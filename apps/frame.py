"""What every page shares: the chosen model, the notices above it, and text that is shown as text."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import streamlit as st
from grids import show_cells
from recording import recorder

from osml.errors import OsmlError, RunError, VerificationError
from osml.nomogram.metadata import NOTICE
from osml.runs.results import Figure, Grid, Results, results_of
from osml.serving import (
    Model,
    RegionModel,
    available_predictors,
    find_bundles,
    is_region,
    load,
    load_region,
    manifest_hash,
    region_predictors,
)
from osml.serving.launch import REGISTRY_VARIABLE, RUN_VARIABLE, TRUST_VARIABLE
from osml.serving.registry import published
from osml.study.training import workspace

MAX_MODELS = 4
MAX_ROWS = 40
# As few marks as possible: a screen reader reads an input's label with its backslashes.
_MARKDOWN = re.compile(
    r"([\\`*\[\]<$~|]"  # anywhere: code, emphasis, links, pictures, tags, formulas, table cells
    r"|^[#>+=-]|^\d+[.)](?=\s)|(?<!\w)_|_(?!\w)"  # at the beginning or end of the text or of a word
    r"|:(?=[A-Za-z+])|&(?=#?\w+;))"  # directives, icons, entities
)


def plain(text: object) -> str:
    """Text in which nothing is markdown: labels and cells come from files that others wrote."""
    return _MARKDOWN.sub(_escaped, " ".join(str(text).split()))


def _escaped(match: re.Match[str]) -> str:
    mark = match.group(1)
    return f"{mark[:-1]}\\{mark[-1]}"


def small(text: object) -> str:
    """Plain text in small letters."""
    return f":small[{plain(text)}]"


@st.cache_resource(max_entries=MAX_MODELS, show_spinner="Verifying the bundle …")
def _loaded(folder: str, manifest: str, predictor: str, trust: bool) -> Model:
    # `manifest` is part of the key: a bundle that was made again is loaded again.
    return load(folder, predictor, trust=trust)


@st.cache_resource(max_entries=MAX_MODELS, show_spinner="Verifying the bundle …")
def _loaded_region(folder: str, manifest: str, predictor: str) -> RegionModel:
    return load_region(folder, predictor)


def choose_model() -> Model | RegionModel | None:
    """The model chosen in the sidebar; the page stops with words when there is none that can be trusted.

    None when there is no model yet and the app was started to train one.
    """
    with refusals():
        bundles = _bundles()
        if not bundles:
            return None
        if len(bundles) > 1:
            bundles = _sound(bundles)
        names = {bundle: _study(bundle) for bundle in bundles}
        bundle = bundles[0]
        if len(bundles) > 1:
            bundle = st.sidebar.selectbox("Study", bundles, format_func=lambda b: plain(names[b]))
        else:
            st.sidebar.markdown(f"**Study** {plain(names[bundle])}")
        region, predictors = _offered(str(bundle), _signature(bundle))
        if not predictors:
            st.error("This run has no model: every predictor failed.")
            st.stop()
        predictor = st.sidebar.selectbox("Model", predictors, format_func=plain, key=f"model of {bundle}")
        if region:
            return _loaded_region(str(bundle), manifest_hash(bundle), predictor)
        trust = os.environ.get(TRUST_VARIABLE) == "yes"
        return _loaded(str(bundle), manifest_hash(bundle), predictor, trust)
    raise AssertionError("refusals() stops the page")


def _bundles() -> tuple[Path, ...]:
    """Bundles of the run or folder that the app was started for, and of its registry."""
    places = [os.environ.get(RUN_VARIABLE) or "runs", os.environ.get(REGISTRY_VARIABLE)]
    found: list[Path] = []
    missing: OsmlError | None = None
    for place in filter(None, places):
        try:
            found += [bundle for bundle in find_bundles(place) if bundle not in found]
        except RunError as error:
            missing = missing or error
    if not found and missing is not None and workspace() is None:
        raise missing
    return tuple(found)


def _sound(bundles: tuple[Path, ...]) -> tuple[Path, ...]:
    """Those that can be verified; of the others the sidebar says why, and they do not stop the rest."""
    reasons = {bundle: _refused(str(bundle), _signature(bundle)) for bundle in bundles}
    bad = [bundle for bundle in bundles if reasons[bundle]]
    if len(bad) == len(bundles):
        raise VerificationError(f"no bundle can be served: {reasons[bad[0]]}", do="`osml registry` lists all of them.")
    if bad:
        with st.sidebar.expander(f"Refused: {len(bad)}"):
            show_facts(
                [(bundle.parent.name if bundle.name == "bundle" else bundle.name, reasons[bundle]) for bundle in bad]
            )
    return tuple(bundle for bundle in bundles if not reasons[bundle])


@st.cache_data(max_entries=200, show_spinner="Verifying the bundle …")
def _offered(folder: str, signature: str) -> tuple[bool, tuple[str, ...]]:
    """Whether a verified bundle maps slides, and its predictors; as long as no file is touched, asked once."""
    bundle = Path(folder)
    return (True, region_predictors(bundle)) if is_region(bundle) else (False, available_predictors(bundle))


@st.cache_data(max_entries=200, show_spinner="Verifying the bundles …")
def _refused(folder: str, signature: str) -> str:
    # `signature` is part of the key: files that were touched are verified again.
    return published(Path(folder)).refused


def _signature(bundle: Path) -> str:
    found = [(file, file.lstat()) for file in sorted(bundle.rglob("*"))]
    return repr([(str(file), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for file, stat in found])


def _study(bundle: Path) -> str:
    run = results_of(bundle)
    if run is not None:
        return run.path.parent.name
    return bundle.parent.name if bundle.name == "bundle" else bundle.name


def current_model() -> Model:
    """The model that main.py chose for this page."""
    model: Model = st.session_state["model"]
    return model


def current_region() -> RegionModel | None:
    """The chosen model, where it maps tissue on slides."""
    model = st.session_state["model"]
    return model if isinstance(model, RegionModel) else None


def current_results() -> Results | None:
    """The run's folder, when the bundle lies in one."""
    return results_of(st.session_state["model"].bundle.path)


def heading(title: str, model: Model | RegionModel) -> None:
    """Top of every page: the notices, the title, and the model it is about."""
    st.markdown(f"**{plain(NOTICE)}**")
    if model.facts["synthetic"]:
        st.warning(f"SYNTHETIC DATA: {plain(model.facts['synthetic'])}. Nothing here holds for a real person.")
    st.title(title)
    st.markdown(f"{plain(model.facts['title'])} · model {plain(model.name)}")


@contextmanager
def refusals() -> Iterator[None]:
    """Shows an error that is meant for a reader, and ends the page; anything else is not caught."""
    try:
        yield
    except OsmlError as error:
        st.error(plain(error.what) + "".join(f"\n\n{plain(part)}" for part in (error.why, error.do) if part))
        st.stop()


def show_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Lines of "name: words", which wrap on a phone as a table's cells do not."""
    st.markdown("  \n".join(f"**{plain(name)}:** {plain(words)}" for name, words in facts))


def show_grid(grid: Grid, caption: str = "") -> None:
    """A small table as a real HTML table, so that a screen reader can walk it."""
    if caption:
        st.markdown(f"**{plain(caption)}**")
    show_cells(grid.header, grid.rows, caption)
    if grid.note:
        st.markdown(small(grid.note))


def rounded(grid: Grid) -> Grid:
    """Numbers to four digits, and of a long table only every k-th row, said so in its note."""
    step = -(-len(grid.rows) // MAX_ROWS)
    rows = tuple(tuple(_short(cell) for cell in row) for row in grid.rows[:: max(1, step)])
    note = grid.note if step <= 1 else f"{grid.note} One row in {step} of {len(grid.rows)} is shown.".strip()
    return Grid(grid.header, rows, note)


def _short(cell: str) -> str:
    try:
        return f"{float(cell):.4g}"
    except ValueError:
        return cell


def show_figure(figure: Figure, caption: str) -> None:
    """A figure as a picture, its numbers under it, and its PDF."""
    image = figure.image.decode("utf-8") if figure.kind == "svg" else figure.image
    with st.container(border=True):
        st.markdown(f"**{plain(caption)}**")
        st.image(image, alt=caption, width="stretch")
        if figure.data is not None:
            with st.expander("Numbers of this figure"):
                show_grid(rounded(figure.data))
        if figure.pdf is not None:
            download("Figure as PDF", figure.pdf, f"{figure.name}.pdf", "application/pdf")


def download(label: str, data: bytes | str | Callable[[], bytes | str], name: str, mime: str) -> None:
    """A download that does not run the page again; that it was taken is recorded when it is."""
    begin = recorder("download", st.session_state.get("model"))

    def taken() -> bytes | str:
        with begin():
            return data() if callable(data) else data

    st.download_button(
        label, taken, re.sub(r"[^A-Za-z0-9_.-]", "_", name), mime, on_click="ignore", key=f"get {name} {label}"
    )
