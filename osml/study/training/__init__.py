"""The app's door to training: a workspace of jobs, uploads, the schema as forms and text, the process, publishing.

Nothing here is on a path that predicts. What a visitor sends is bounded, and a schema may only name what was uploaded.
"""

from osml.study.training.forms import PRESETS, Field, Form, choose_models, known_at, use_input, write
from osml.study.training.intake import columns_seen, draft, patient_candidates, stored_table, take_in
from osml.study.training.judge import Checked, Judgement, Remark, check, judge
from osml.study.training.process import Progress, State, cancel, progress, running, start, state
from osml.study.training.registry import (
    check_name,
    failures,
    publish,
    registry,
    report_html,
    result,
    results_zip,
)
from osml.study.training.workspace import Job, Workspace, workspace

__all__ = [
    "PRESETS",
    "Checked",
    "Field",
    "Form",
    "Job",
    "Judgement",
    "Progress",
    "Remark",
    "State",
    "Workspace",
    "cancel",
    "check",
    "check_name",
    "choose_models",
    "columns_seen",
    "draft",
    "failures",
    "judge",
    "known_at",
    "patient_candidates",
    "progress",
    "publish",
    "registry",
    "report_html",
    "result",
    "results_zip",
    "running",
    "start",
    "state",
    "stored_table",
    "take_in",
    "use_input",
    "workspace",
    "write",
]
