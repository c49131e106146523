"""`osml plan`, and which plan `osml fit` follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from osml.errors import OsmlError, SchemaError
from osml.files import atomic_write
from osml.schema.load import LoadedSchema, load_schema
from osml.study.planning.machine import machine
from osml.study.planning.plan import Plan, Preset, plain, read_plan, time_limit
from osml.study.planning.propose import LIMITS, changes, propose

Say = Callable[[str], None]
PRESETS: tuple[Preset, ...] = ("quick", "standard", "thorough")


@dataclass(frozen=True)
class Followed:
    """The plan of a run, and how it departs from what osml proposed.

    source : the file it was read from; "" when it was made at the start of the run
    changed : differences in words; none when it was not edited
    """

    plan: Plan
    source: str
    changed: tuple[str, ...]

    def record(self) -> dict[str, object]:
        """What metrics.json keeps of it."""
        file = self.plan.file
        return {
            "source": self.source or "made at the start of the run",
            "hash": file.proposed,
            "edited": self.plan.edited,
            "changes": list(self.changed),
            "preset": file.preset,
            "time_limit": file.time_limit,
            "tier": file.cohort["tier"],
            "cohort": plain(file.cohort),
            "machine": plain(file.machine),
            "candidates": [
                {"name": name, "kind": block["kind"], "reason": file.why.get(name, "added by hand")}
                for name, block in file.predictors.items()
            ],
            "left_out": [{"name": row.what, "reason": row.why} for row in file.left_out],
            "governor": [row.model_dump() for row in file.governor],
        }


def beside(schema: Path) -> Path:
    """Where the plan of a schema file is written and looked for."""
    return schema.with_name(f"{schema.stem}.plan.yaml")


def chosen_preset(name: str | None) -> Preset:
    """A preset by its name; standard when none is named."""
    found = next((preset for preset in PRESETS if preset == (name or "standard")), None)
    if found is None:
        raise SchemaError(f"there is no preset {name!r}", do=f"One of: {', '.join(PRESETS)}.")
    return found


def write_plan(
    path: Path, overrides: Sequence[str], preset: str | None, limit: str | None, out: Path | None, say: Say
) -> Path:
    """Write the plan of a schema with `predictors: auto`; an existing file is not overwritten."""
    loaded = load_schema(path, overrides)
    _require_auto(loaded, "osml plan")
    target = out or beside(path)
    if target.exists():
        raise OsmlError(
            f"{target} exists; nothing was written", do="Remove it to plan anew, or give another name with -o."
        )
    plan = _proposed(loaded, overrides, preset, limit, target.name)
    atomic_write(target, plan.text)
    tell(plan, say)
    say(f"wrote     {target}; then: osml fit {path}" + (f" --plan {target}" if out else ""))
    return target


def _proposed(loaded: LoadedSchema, overrides: Sequence[str], preset: str | None, limit: str | None, name: str) -> Plan:
    kind = chosen_preset(preset)
    seconds = LIMITS[kind] if limit is None else time_limit(limit)
    return propose(loaded, preset=kind, limit=seconds, machine=machine(), overrides=tuple(overrides), name=name)


def _require_auto(loaded: LoadedSchema, what: str) -> None:
    if not loaded.auto:
        raise SchemaError(
            f"{loaded.where('predictors')}: {what} is for `predictors: auto`; this schema lists its predictors",
            do="Write `predictors: auto`, or leave the option out: what is listed is fitted.",
        )


def followed(
    loaded: LoadedSchema,
    overrides: Sequence[str],
    *,
    plan: Path | None,
    preset: str | None,
    limit: str | None,
) -> Followed | None:
    """The plan that a run follows: the one named, the one beside the schema, or one made now; None without `auto`.

    Raises
    ------
    SchemaError
        Options that a schema or a written plan does not go with; a plan of another schema.
    """
    if not loaded.auto:
        if plan is not None or preset is not None:
            _require_auto(loaded, "--plan" if plan is not None else "--preset")
        return None
    file = plan or (beside(loaded.path) if beside(loaded.path).is_file() else None)
    if file is None:
        return Followed(_proposed(loaded, overrides, preset, limit, "plan.yaml"), "", ())
    written = read_plan(file)
    if preset is not None and preset != written.file.preset:
        raise SchemaError(
            f"--preset {preset}, but {file} was written with preset {written.file.preset}",
            do="Leave the option out, or remove the plan and write it again.",
        )
    if written.file.schema_sha256 != loaded.digest():
        raise SchemaError(
            f"{file} was written for another schema: inputs, target, validation or an override differ",
            why="Its candidates and sample sizes rest on what the schema said then.",
            do="Write it again: remove it and run `osml plan`.",
        )
    again = propose(
        loaded, preset=written.file.preset, limit=written.file.time_limit, machine=written.file.machine,
        overrides=tuple(overrides),
    )  # fmt: skip
    found = changes(written, again)
    if again.file.table_sha256 != written.file.table_sha256:
        found.append("the table has changed since the plan was written")
    return Followed(written, file.name, tuple(found))


def tell(plan: Plan, say: Say) -> None:
    """The plan as a few lines of a terminal."""
    file = plan.file
    counts = ", ".join(f"{value} {key}" for key, value in file.cohort.items() if isinstance(value, int))
    limit = "no time limit" if file.time_limit is None else f"time limit {file.time_limit:g} s"
    say(f"plan      preset {file.preset}, {limit}; {counts}: {file.cohort['tier']} sample")
    width = max(len(name) for name in file.predictors) + 2
    for name, block in file.predictors.items():
        say(f"  {name:<{width}}{block['kind']:<10} {file.why.get(name, 'added by hand')}")
    for row in file.governor:
        needed = "no solution" if row.needed is None else f"{row.needed} patients asked for"
        say(
            f"  Riley     {row.predictor}: {row.parameters} parameters, {needed}, {row.patients} at hand: {row.verdict}"
        )
    for left in file.left_out:
        say(f"  left out  {left.what}: {left.why}")
