"""The lesions as they were measured: pictures that the fit left in the run, since a report reads no image."""

from __future__ import annotations

from typing import Any

from osml.files import read_json
from osml.report.exhibit import Exhibit, unavailable
from osml.report.run import Run
from osml.report.wording import event_words, plural


def region_exhibit(run: Run, name: str) -> Exhibit:
    """Montage of a radiomics input: the largest slice of some lesions with the outlines of their regions."""
    key, title = f"regions_{name}", f"Lesions and regions, {name}"
    picture, facts = (run.path / "cohort" / f"montage_{name}{ending}" for ending in (".png", ".json"))
    if not picture.is_file() or not facts.is_file():
        return unavailable(key, title, "The run holds no pictures of the lesions.")
    found: dict[str, Any] = read_json(facts)
    tiles = found["tiles"]
    outlines = ", ".join(f"{mm:g} mm" for mm in found["outlines_mm"])
    around = f"; further out, {outlines} from it" if outlines else ""
    lost = f" {plural(found['left_out'], 'picture')} could not be drawn." if found["left_out"] else ""
    caption = (
        f"{len(tiles)} of {len(run.cohort)} {run.units}, from the smallest to the largest lesion of each outcome, in "
        f"the slice that cuts most of it, on the grid on which features were computed. Innermost line: the mask"
        f"{around}. A mask that is upside down, shifted or of another lesion would show here. Bar: 20 mm. Each picture "
        f"has its own grey scale and lies as it is stored. Outcome: {event_words(run)}.{lost}"
    )
    header = ("tile", "outcome", "lesion_ml", "slice_share")
    rows = [(k + 1, tile["outcome"], tile["size"], tile["share"]) for k, tile in enumerate(tiles)]
    return Exhibit(key, title, caption, None, header, rows, picture=picture.read_bytes(), wide=True)
