"""The command line: thin commands; everything heavy is imported inside them, so `osml --help` answers at once."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal

import typer

from osml import __version__
from osml.errors import EXIT_CHECK, EXIT_FINE, EXIT_INTERNAL, EXIT_USER, OsmlError
from osml.imaging.commands import slide
from osml.study.slide_commands import evaluate, segment
from osml.synthetic.commands import synth

app = typer.Typer(
    name="osml",
    help="Clinical prediction from one YAML: honest validation, a nomogram that proves itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(synth, name="synth")
slide.command()(segment)
slide.command()(evaluate)
app.add_typer(slide, name="slide")
radiomics = typer.Typer(help="Radiomic features of images with masks.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(radiomics, name="radiomics")

SchemaFile = Annotated[Path, typer.Argument(metavar="SCHEMA", help="the study's YAML")]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="read files that run code (AutoGluon's pickles): only from somebody you trust"),
]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="override one key; repeatable")]
Engine = Annotated[
    Literal["auto", "local", "ray"],
    typer.Option("--engine", help="where tasks run; auto: this machine, and long work on the cluster of --address"),
]
Address = Annotated[str, typer.Option("--address", metavar="HOST:PORT", help="of a running Ray cluster")]


# Typer swallows Ctrl-C and returns this code instead.
_TYPERS_CTRL_C = 130


def main() -> None:
    """Entry point of the `osml` command."""
    with _ExitCodes():
        code = app(standalone_mode=False)
        if code == _TYPERS_CTRL_C:
            raise KeyboardInterrupt
        sys.exit(code or EXIT_FINE)


class _ExitCodes:
    """Turns what went wrong into words and an exit code; only an unexpected error shows its traceback."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, SystemExit):
            return
        if isinstance(error, OsmlError):
            typer.echo(f"{type(error).__name__}: {error}", err=True)
            sys.exit(error.exit_code)
        if isinstance(error, typer.TyperException):  # wrong options: typer's own wording
            getattr(error, "show", lambda: typer.echo(str(error), err=True))()
            sys.exit(EXIT_USER)
        if isinstance(error, (KeyboardInterrupt, typer.Abort)):
            typer.echo("stopped; finished work is kept, the same command continues", err=True)
            sys.exit(EXIT_USER)
        if isinstance(error, OSError) and error.filename is not None:
            typer.echo(f"cannot use {error.filename}: {error.strerror}; choose another place", err=True)
            sys.exit(EXIT_USER)
        traceback.print_exception(kind, error, trace)
        typer.echo("internal error: please report the lines above", err=True)
        sys.exit(EXIT_INTERNAL)


def _tasks_at(engine: Literal["auto", "local", "ray"], address: str, *folders: Path) -> AbstractContextManager[None]:
    """Where the tasks of a command run; `folders` are written to, as is the cache."""
    from osml.cache import default_folder
    from osml.engine import Place, on

    return on(Place(engine, address, (*folders, default_folder())), typer.echo)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if show:
        typer.echo(f"osml {__version__}")
        raise typer.Exit


@app.command()
def init(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV, TSV, Parquet or XLSX")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="file to write; default: <table>.yaml")] = None,
    patient: Annotated[str | None, typer.Option(help="column that names the patient")] = None,
    target: Annotated[str | None, typer.Option(help="column of the outcome")] = None,
) -> None:
    """Write a commented schema for a table, with the evidence for each guess; '?' marks what only you can answer."""
    from osml.cohort.draft import draft_schema
    from osml.files import atomic_write

    path = out or table.with_suffix(".yaml")
    if path.exists():
        raise OsmlError(f"{path} exists; nothing was written", do="Give another name with -o.")
    text = draft_schema(table, path, patient=patient, target=target)
    atomic_write(path, text)
    questions = sum(line.split("#")[0].count('"?"') for line in text.splitlines())
    typer.echo(f'wrote {path}: {questions} places marked "?" are for you to answer; then: osml check {path}')


@app.command()
def check(
    schema: SchemaFile,
    set_: Overrides = None,
    leakage: Annotated[
        bool, typer.Option("--leakage", help="show that nothing leaks between patients (fits many models)")
    ] = False,
    permutations: Annotated[int, typer.Option(min=2, help="for --leakage; below 200 nothing is called passed")] = 200,
    workers: Annotated[int | None, typer.Option(min=1, help="for --leakage: processes")] = None,
    engine: Engine = "auto",
    address: Address = "",
) -> None:
    """Check schema, table and sample size; with --leakage also the pipeline."""
    from osml.study.report_checks import report_checks, report_leakage

    if leakage:
        with _tasks_at(engine, address):
            bad = report_leakage(schema, set_ or (), permutations, workers, typer.echo)
    else:
        bad = report_checks(schema, set_ or (), typer.echo)
    if bad:
        raise typer.Exit(EXIT_CHECK)


@app.command()
def fit(
    schema: SchemaFile,
    set_: Overrides = None,
    runs: Annotated[Path, typer.Option(help="folder of runs")] = Path("runs"),
    new: Annotated[bool, typer.Option("--new", help="fit again although this study was fitted before")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default: as many as pay")] = None,
    device: Annotated[str, typer.Option(help="of networks: auto (a GPU if there is one), cpu, cuda, cuda:1")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="GPUs for one training of a network that tunes an encoder")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress lines")] = False,
    plan: Annotated[Path | None, typer.Option(help="of `predictors: auto`: default SCHEMA.plan.yaml, if there")] = None,
    preset: Annotated[
        str | None, typer.Option(help="of `predictors: auto`: quick, standard (default), thorough")
    ] = None,
    time_limit: Annotated[str | None, typer.Option(metavar="TIME", help="for all of it: 90s, 10m, 2h, none")] = None,
    engine: Engine = "auto",
    address: Address = "",
) -> None:
    """Fit, validate and draw every predictor of a study. The same command continues a run that was stopped."""
    from osml.nets.device import DEVICES, VARIABLE, choose_device, choose_devices
    from osml.study.fit import fit as run_fit
    from osml.study.prepare import PlanChoice
    from osml.study.terminal import show

    os.environ |= {VARIABLE: device, DEVICES: str(devices)}  # workers inherit them
    if devices > 1 and engine != "ray":  # a cluster's cards are its own
        choose_devices(choose_device())
    with _tasks_at(engine, address, runs):
        result = run_fit(
            schema, overrides=set_ or (), runs=runs, new=new, workers=workers, say=typer.echo, quiet=quiet,
            plan=PlanChoice(plan, preset, time_limit),
        )  # fmt: skip
    show(result, typer.echo)
    if result.ended_badly:
        raise typer.Exit(EXIT_INTERNAL)


@app.command()
def plan(
    schema: SchemaFile,
    set_: Overrides = None,
    preset: Annotated[str | None, typer.Option(help="quick, standard (default) or thorough")] = None,
    time_limit: Annotated[
        str | None, typer.Option(metavar="TIME", help="for `osml fit`; default: the preset's")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="default: SCHEMA.plan.yaml beside the schema")] = None,
) -> None:
    """Write the candidates of a schema with `predictors: auto`, with reasons, before anything is fitted."""
    from osml.study.planning.command import write_plan

    write_plan(schema, set_ or (), preset, time_limit, out, typer.echo)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run, study folder (its latest run) or bundle")],
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="table with the schema's input columns")],
    out: Annotated[Path, typer.Option("-o", "--out", help="CSV to write")] = Path("predictions.csv"),
    predictor: Annotated[str | None, typer.Option(help="default: the chosen one, else the first of the schema")] = None,
    sheets: Annotated[Path | None, typer.Option(help="folder for a PDF sheet of each row")] = None,
    trust: Trust = False,
) -> None:
    """Predict new patients: one output row per input row; rows that cannot be used are named and left empty."""
    from osml.study.predict import predict_table

    bad = predict_table(run, table, out, predictor, typer.echo, trust=trust, sheets=sheets)
    if bad:
        raise typer.Exit(EXIT_CHECK)


@app.command()
def nomogram(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run, study folder (its latest run) or bundle")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help=".pdf, .svg, .png, .html (calculator), .csv or .json")
    ] = Path("nomogram.pdf"),
    page: Annotated[str, typer.Option(help="a4 | letter | column")] = "a4",
    theme: Annotated[str, typer.Option(help="print | screen")] = "print",
    patient: Annotated[Path | None, typer.Option(help="table with one row: that patient's lines are drawn")] = None,
    predictor: Annotated[str | None, typer.Option(help="default: the chosen one, else the first of the schema")] = None,
    font: Annotated[list[Path] | None, typer.Option(help="font file for other scripts; repeatable")] = None,
    trust: Trust = False,
) -> None:
    """Draw or export a fitted nomogram."""
    from osml.study.nomogram_file import write_nomogram

    typer.echo(f"wrote {write_nomogram(run, out, page, theme, patient, predictor, font or (), trust=trust)}")


@app.command("app")
def app_(
    run: Annotated[Path | None, typer.Argument(help="run, study's folder, bundle, or folder of runs; runs")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML of settings; options win over it")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="8501")] = None,
    address: Annotated[str | None, typer.Option(help="to listen on; default: this machine only, 127.0.0.1")] = None,
    url: Annotated[str | None, typer.Option(help="that visitors type, where a proxy stands before the app")] = None,
    upload_mb: Annotated[int | None, typer.Option(min=1, max=4096, help="largest file that can be sent; 200")] = None,
    slides: Annotated[Path | None, typer.Option(help="folder below which slides may be named by path")] = None,
    train: Annotated[Path | None, typer.Option(help="workspace of the page Train; without it there is none")] = None,
    registry: Annotated[Path | None, typer.Option(help="folder of published bundles")] = None,
    audit: Annotated[
        str | None, typer.Option(metavar="URL", help="audit log: SQLAlchemy URL, file, or none; SQLite")
    ] = None,
    auth: Annotated[Literal["none", "required"] | None, typer.Option(help="whether visitors have to log in")] = None,
    open_to_network: Annotated[
        bool, typer.Option("--open-to-network", help="listen beyond this machine although nobody logs in")
    ] = False,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open a browser window")] = True,
    trust: Trust = False,
) -> None:
    """Serve the app on this machine: predict, nomogram, performance. Ends with Ctrl-C."""
    from osml.serving.launch import serve_app
    from osml.serving.settings import read_settings

    paths = {"run": run, "slides": slides, "train": train, "registry": registry}
    given = {key: None if path is None else str(path) for key, path in paths.items()}
    given |= {"address": address, "url": url, "audit": audit, "auth": auth}
    numbers = {"port": port, "upload_mb": upload_mb, "open_to_network": open_to_network or None}
    settings = read_settings(config, given | numbers)
    code = serve_app(settings, browser=browser, trust=trust, say=typer.echo)
    if code:
        raise typer.Exit(EXIT_INTERNAL)


@app.command("registry")
def registry_(
    folder: Annotated[Path, typer.Argument(help="folder of bundles or of runs")],
    replay: Annotated[bool, typer.Option("--replay", help="also load every predictor and replay its cases")] = False,
    trust: Trust = False,
) -> None:
    """List the bundles of a folder; each is verified, and one that fails is named with the reason."""
    from osml.serving.registry import show_registry

    if show_registry(folder, replay, trust, typer.echo):
        raise typer.Exit(EXIT_CHECK)


@app.command()
def audit(
    log: Annotated[str | None, typer.Argument(metavar="[FILE|URL]", help="default: the app's own")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="CSV of all lines")] = None,
    last: Annotated[int, typer.Option(min=1, help="lines to show")] = 20,
) -> None:
    """Show the app's audit log, or write it as a CSV."""
    from osml.serving.audit import show_log

    show_log(log, out, last, typer.echo)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="run folder (or the study's folder, for its latest run)")]) -> None:
    """Make the report of a finished run again, from its folder alone; nothing is fitted."""
    from osml.report import make_report
    from osml.runs.directory import RunDirectory

    typer.echo(f"report    {make_report(RunDirectory.open(run).path)}")


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="run folder (or the study's folder, for its latest run)")],
    predictor: Annotated[str | None, typer.Option(help="default: the chosen one, else the first of the schema")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="folder; default: explanation/ in the run")] = None,
    trust: Trust = False,
) -> None:
    """SHAP values of the final model for its training patients: figures (PDF, PNG) and their data (CSV)."""
    from osml.explanation.write import write_explanation
    from osml.runs.directory import RunDirectory

    write_explanation(RunDirectory.open(run).path, predictor, out, typer.echo, trust=trust)


@radiomics.command("extract")
def radiomics_extract(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="CSV: patient, image, mask; optional name (t1), body")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help=".parquet or .csv")] = Path("features.parquet"),
    settings: Annotated[Path | None, typer.Option(help="YAML of settings; default: original image, lesion")] = None,
    cache: Annotated[Path | None, typer.Option(help="folder; default: $OSML_CACHE or the user's cache")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default: as many as pay")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress lines")] = False,
    engine: Engine = "auto",
    address: Address = "",
) -> None:
    """Extract features, one row per patient; what was computed before is not computed again."""
    from osml.radiomics.batch import extract_file

    with _tasks_at(engine, address, *([cache] if cache else [])):
        failed = extract_file(
            images, out, settings=settings, cache=cache, workers=workers, say=typer.echo, quiet=quiet
        )  # fmt: skip
    if failed:
        raise typer.Exit(EXIT_CHECK)


@app.command()
def schema(json_: Annotated[bool, typer.Option("--json", help="as JSON Schema")] = False) -> None:
    """Print every key of the schema with its meaning."""
    from osml.schema.describe import describe, json_schema

    typer.echo(json_schema() if json_ else describe())


@app.command()
def doctor() -> None:
    """Say what is installed, what this machine has, and what is missing for which feature."""
    from osml.doctor import report

    typer.echo(report())
