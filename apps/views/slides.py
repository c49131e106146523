"""Whole slides: a slide of the server's folder is segmented and looked at; held-out slides of the run."""

from __future__ import annotations

from pathlib import Path

import patient
import streamlit as st
from frame import (
    current_model,
    current_region,
    current_results,
    download,
    heading,
    plain,
    refusals,
    show_facts,
    show_grid,
    small,
)
from recording import recorder

from osml.serving import (
    FILES,
    NOT_A_REPORT,
    ZOOM_MM,
    RegionModel,
    SegmentedSlide,
    SlideJob,
    SlideJobs,
    area_grid,
    chosen_slide,
    finished,
    legend,
    list_slides,
    look,
    necrosis_rate,
    necrosis_words,
    overlay,
    region_box,
    slide_root,
    trained_on,
)

JOB, LOOKED = "slide job", "slide pixels"
EVERY_S = 2.0
HELD_OUT = ("lowest", "middle", "highest")


@st.cache_resource
def jobs() -> SlideJobs:
    """Counts the jobs of all visitors; it holds none of their slides."""
    return SlideJobs()


def choose(model: RegionModel, root: Path) -> None:
    """A slide of the list, never a path that somebody types; and the button that starts."""
    listed = list_slides(root)
    if not listed.names:
        st.info("The folder that the app may read holds no slide.")
        return
    if listed.cut:
        st.warning(f"Only {len(listed.names):,} slides are listed; start the app with a smaller folder for others.")
    name = st.selectbox(
        "Slide",
        listed.names,
        None,
        format_func=plain,
        placeholder="Choose a slide",
        key=f"slide {patient.generation()}",
    )
    running = (job := current_job(model)) is not None and job.running
    if st.button("Segment this slide", type="primary", disabled=name is None or running):
        drop_job()
        with refusals():
            job = jobs().start(model, chosen_slide(root, name), name, recorder("predict", model, name))
        st.session_state[JOB] = job
        st.rerun()


def current_job(model: RegionModel) -> SlideJob | None:
    """This session's job, if it is this model's."""
    job = st.session_state.get(JOB)
    same = job is not None and (job.model_hash, job.predictor) == (model.bundle.model_hash, model.name)
    return job if same else None


def drop_job() -> None:
    """Stop the job of this session and remove its files."""
    job = st.session_state.pop(JOB, None)
    st.session_state.pop(LOOKED, None)
    if job is not None:
        job.close()


@st.fragment(run_every=EVERY_S)
def watch() -> None:
    """Progress of the session's job, looked at every two seconds; it goes on while other pages are open."""
    job = st.session_state.get(JOB)
    if job is None or not job.running:
        st.rerun()
        return
    minutes, seconds = divmod(int(job.seconds), 60)
    st.info(f"{plain(job.name)}: {plain(job.stage)} … {minutes}:{seconds:02d}")
    if st.button("Stop"):
        drop_job()
        st.rerun()


def viewer(found: SegmentedSlide) -> None:
    """Classes over the slide or a part of it, with the key's words beside the colours."""
    st.header("Map")
    labels = {kind.name: kind.label or kind.name for kind in found.classes[1:]}
    left, right = st.columns(2)
    with left:
        opacity = st.slider("Opacity of the colours (%)", 0, 100, 45, 5)
        shown = st.multiselect(
            "Classes in colour", list(labels), list(labels), format_func=lambda name: plain(labels[name])
        )
    with right:
        sizes = ["the whole slide", *(f"{mm:g} mm" for mm in ZOOM_MM)]
        size = st.selectbox("Part of the slide", sizes)
        mm = None if size == sizes[0] else ZOOM_MM[sizes.index(size) - 1]
        across = st.slider("From left to right (%)", 0, 100, 50, disabled=mm is None)
        down = st.slider("From top to bottom (%)", 0, 100, 50, disabled=mm is None)
    box = region_box(found, mm, across / 100, down / 100)
    kept = st.session_state.get(LOOKED)
    if kept is None or kept[0] != (found.folder, box):
        with refusals(), st.spinner("Reading the slide …"):
            kept = ((found.folder, box), *look(found, box))
        st.session_state[LOOKED] = kept
    hidden = [name for name in labels if name not in shown]
    with refusals():
        picture = overlay(found, kept[1], box, kept[2], opacity / 100, hidden)
    share = found.facts["mpp"] / 1000
    words = f"{found.name}: {box[2] * share:.2f} × {box[3] * share:.2f} mm, classes in colour"
    st.image(picture, caption=plain(words), alt=words, width="stretch")
    if shown:
        st.image(legend(found, hidden), alt=f"Colours: {', '.join(labels[name] for name in shown)}")


def result(model: RegionModel, found: SegmentedSlide) -> None:
    """Rate, areas, map, files."""
    st.header("Result")
    st.markdown(f"**{plain(found.facts['statement'])}**")
    if trained_on(model, found):
        st.warning("This slide helped to develop the model: its map looks better than that of another patient would.")
    rate = necrosis_rate(found)
    if rate is not None:
        st.markdown(f"### {100 * rate:.1f} %\n\n**necrosis rate of this slide**")
    for words in necrosis_words(found):
        st.markdown(plain(words))
    show_grid(area_grid(found), "Areas")
    st.markdown(small(found.facts["grade"]))
    viewer(found)
    st.header("Take away")
    stem = Path(found.name).stem
    for label, name, mime in FILES:
        download(label, lambda name=name: found.file(name), f"{stem}.{name}", mime)  # type: ignore[misc]


def held_out(model: RegionModel) -> None:
    """Slides of the run that the model had not seen: drawn beside predicted."""
    results = current_results()
    figures = [
        (number, figure)
        for number in range(1, len(HELD_OUT) + 1)
        for figure in (results.figures(f"overlay_{model.name}_{number}") if results is not None else [])
    ]
    if not figures:
        st.info("Held-out slides are in the run's report, which is not here.")
        return
    words = {number: f"{HELD_OUT[number - 1]} mean IoU" for number, _ in figures}
    number = st.selectbox("Held-out slide with the", list(words), format_func=lambda k: words[k])
    figure = dict(figures)[number]
    alt = f"Held-out slide with the {words[number]}: annotated on the left, predicted on the right, key below"
    st.image(figure.image if figure.kind == "png" else figure.image.decode("utf-8"), caption=alt, alt=alt)


region = current_region()
if region is None:
    model = current_model()
    heading("Slides", model)
    st.info("This model reads no slides: it predicts patients from the page Predict.")
    st.stop()
    raise AssertionError("st.stop() ends the page")
heading("Slides", region)
st.markdown(f"**{plain(NOT_A_REPORT)}**")
show_facts([("Model", region.name), ("Classes", ", ".join(kind.label for kind in region.classes))])
source = st.segmented_control(
    "Slides", ["Of the server's folder", "Held out in the study"], default="Of the server's folder"
)
if source == "Held out in the study":
    held_out(region)
    st.stop()
with refusals():
    root = slide_root()
if root is None:
    st.info(
        "This app may read no slides: it was started without a folder of them (`osml app RUN --slides FOLDER`). "
        "Slides are too large to upload."
    )
else:
    choose(region, root)
own = current_job(region)
if own is not None:
    with refusals():
        failure, done = own.failure, finished(own)
    if own.running:
        watch()
    elif failure:
        st.error(f"No map: {plain(failure)}")
    elif done is not None:
        with refusals():
            result(region, done)
