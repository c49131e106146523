"""What a run recorded about its Rad-scores: the selection of the final model and of every outer fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osml.files import read_json
from osml.report.run import Run
from osml.report.wording import no_model
from osml.schema.model import RadscorePredictor


@dataclass(frozen=True)
class Chosen:
    """One selection: `steps` are (name, features kept); `path` is the LASSO's, as `selection.json` holds it."""

    region: str
    columns: tuple[str, ...]
    steps: tuple[tuple[str, int], ...]
    path: Mapping[str, Any] | None


@dataclass(frozen=True)
class Radscore:
    """A Rad-score of a run.

    final : selection of the model for deployment, None where it could not be fitted; `reason` then says why
    folds : selections of the outer folds that succeeded
    several_regions : there was a region to choose
    """

    name: str
    block: RadscorePredictor
    final: Chosen | None
    reason: str
    folds: tuple[Chosen, ...]
    several_regions: bool

    @property
    def input(self) -> str:
        """The radiomics input that it reads."""
        return self.block.inputs[0]

    @property
    def frequency(self) -> list[tuple[str, int]]:
        """(feature, folds that selected it), most frequent first; those of the final model are all among them."""
        counts: dict[str, int] = {} if self.final is None else dict.fromkeys(self.final.columns, 0)
        for chosen in self.folds:
            for column in chosen.columns:
                counts[column] = counts.get(column, 0) + 1
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))

    @property
    def regions(self) -> list[tuple[str, int]]:
        """(region, folds that chose it), most frequent first."""
        counts: dict[str, int] = {}
        for chosen in self.folds:
            counts[chosen.region] = counts.get(chosen.region, 0) + 1
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def radscores(run: Run) -> list[Radscore]:
    """The Rad-scores of the schema, in its order."""
    found = []
    for name, block in run.schema.predictors.items():
        if not isinstance(block, RadscorePredictor):
            continue
        file = run.path / "selection" / f"{name}.json"
        # A file of an earlier attempt says nothing where the last one failed.
        failed = no_model(run.metrics["predictors"].get(name, {}))
        final = _read(file) if file.is_file() and not failed else None
        folds = tuple(
            _read(run.path / "folds" / fold.name / name / "selection.json")
            for fold in run.folds
            if (run.path / "folds" / fold.name / name / "selection.json").is_file()
        )
        table = run.cohort.features.get(block.inputs[0])
        regions = set() if table is None else {column.split("|")[1] for column in table.columns}
        several = block.region == "best" and len(regions) > 1
        found.append(Radscore(name, block, final, failed or "it was not recorded", folds, several))
    return found


def _read(file: Path) -> Chosen:
    data = read_json(file)
    steps = tuple((step["name"], int(step["kept"])) for step in data["steps"])
    return Chosen(data["region"], tuple(data["columns"]), steps, data["path"])
