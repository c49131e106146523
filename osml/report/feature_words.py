"""Names of radiomic features as a clinician reads them, and labels that fit beside an axis."""

from __future__ import annotations

import re
import textwrap

_CLASSES = {"firstorder": "first-order", "shape": "shape", "shape2D": "2D shape"}
# What the splitting of capitals cannot know.
_NAMES = {
    "Id": "inverse difference",
    "Idn": "inverse difference normalised",
    "Idm": "inverse difference moment",
    "Idmn": "inverse difference moment normalised",
    "Imc1": "information correlation 1",
    "Imc2": "information correlation 2",
    "MCC": "maximal correlation coefficient",
    "10Percentile": "10th percentile",
    "90Percentile": "90th percentile",
}
_WORD = re.compile(r"[23]D|[A-Z][a-z]+|[A-Z]+(?![a-z])|\d+")
_LOG = re.compile(r"log-sigma-(\d+)-(\d+)-mm-[23]D")
_BETWEEN = " · "


def feature_words(column: str, *, region: bool = True) -> str:
    """A column `image|region|filter_class_Name` in words; no filter is named for the original image.

    A name that is not of this form comes back as it is.

    >>> feature_words("t1|tumour+2mm|wavelet-LLH_glcm_JointEntropy")
    'tumour+2mm · wavelet LLH · GLCM joint entropy'
    >>> feature_words("t1|tumour|log-sigma-2-0-mm-3D_glszm_GrayLevelNonUniformity", region=False)
    'LoG 2 mm · GLSZM grey level non-uniformity'
    >>> feature_words("t1|tumour|original_shape_Maximum2DDiameterSlice", region=False), feature_words("age")
    ('shape maximum 2D diameter slice', 'age')
    """
    prefix, _, feature = column.rpartition("|")
    parts = feature.rsplit("_", 2)
    if len(parts) != 3 or not prefix:
        return column
    image, group, name = parts
    where = [prefix.split("|")[-1]] if region else []
    picture = [] if image == "original" else [_filter(image)]
    return _BETWEEN.join([*where, *picture, f"{_CLASSES.get(group, group.upper())} {_NAMES.get(name) or _split(name)}"])


def _filter(image: str) -> str:
    found = _LOG.fullmatch(image)
    if found:
        return f"LoG {float(f'{found[1]}.{found[2]}'):g} mm"
    return image.replace("-", " ").replace("squareroot", "square root")


def _split(name: str) -> str:
    words = [word if word in ("2D", "3D") else word.lower() for word in _WORD.findall(name)]
    text = " ".join(words).replace("gray", "grey").replace("non uniformity", "non-uniformity")
    return text.replace("normalized", "normalised")


def wrapped(text: str, width: int) -> str:
    """Text in lines of at most `width` characters where words allow; no line begins with a point.

    >>> wrapped("tumour+2mm · wavelet LLH · GLCM joint entropy", 28)
    'tumour+2mm · wavelet LLH ·\\nGLCM joint entropy'
    """
    # A point stays with the word before it.
    lines = textwrap.wrap(text.replace(_BETWEEN, "\N{NO-BREAK SPACE}· "), width, break_long_words=False)
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")
