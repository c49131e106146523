"""Which models AutoGluon fits, and every default of it that is not left as it is, with the reason.

AutoGluon chooses for tables of thousands of independent rows. Cohorts have a few hundred patients, some with several
rows. Its defaults are documented in `TabularPredictor.fit` and `autogluon/tabular/configs` of 1.6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# What the extra installs. Neural networks (torch), CatBoost and XGBoost are not part of it; nearest neighbours hold the
# training patients' rows, so no bundle may contain them; TabPFN and its kin fetch their weights over the network.
FAMILIES = ("LR", "RF", "XT", "GBM")


@dataclass(frozen=True)
class Override:
    """A default of AutoGluon that is replaced.

    name : of the setting; `ours`, `theirs` : what it is here, and in AutoGluon
    """

    name: str
    ours: str
    theirs: str
    why: str


OVERRIDES = (
    Override(
        "groups",
        "the inner folds of patients",
        "8 folds of rows, stratified",
        "rows of one patient, and its copies in a bootstrap, must not lie on both sides of a bag",
    ),
    Override(
        "eval_metric",
        "log_loss",
        "accuracy",
        "risks are what is used; accuracy at 0.5 rewards calling everybody the larger class (Gneiting & Raftery 2007)",
    ),
    Override(
        "holdout_frac, use_bag_holdout",
        "no holdout",
        "medium_quality holds out up to 20 % of the rows at random",
        "20 % of 100 patients choose nothing reliably, and random rows split patients",
    ),
    Override(
        "num_stack_levels, dynamic_stacking",
        "0, off",
        "automatic, a quarter of the time",
        "stackers of stackers overfit small tables, as AutoGluon's own guide says, and its test for that needs a "
        "holdout",
    ),
    Override(
        "num_bag_sets",
        "1",
        "repeats while time is left",
        "groups allow one division; more would make the result depend on the machine's speed",
    ),
    Override(
        "hyperparameters",
        "small_n: three ridge logistic regressions, a forest, extra trees, two boosted models of shallow trees",
        "boosted trees of up to 128 leaves with 3 rows each, forests with single rows in a leaf, neural networks",
        "with 100 patients such leaves are patients",
    ),
    Override(
        "early stopping",
        "small_n: a fixed number of boosting rounds",
        "the held-out rows of each bag choose the number of rounds",
        "the same rows then score the model, weigh it and calibrate it: too good, most of all when they are few",
    ),
    Override(
        "feature_generator",
        "missing numbers are their training median and missing levels the most frequent one, each input with an "
        "indicator where training patients lack it",
        "forests take 0 for a missing number, and of a level with two values the other one",
        "a missing potassium is not 0, and a missing sex not female",
    ),
    Override(
        "proc.skew_threshold",
        "none",
        "skewed columns are mapped to their training quantiles",
        "the quantiles of few patients are the patients' own values: they would lie in the bundle",
    ),
    Override(
        "LightGBM's files",
        "without the smallest and largest value of each column",
        "with them",
        "they are single patients' values, and predict nothing",
    ),
    Override(
        "calibrate",
        "off; Platt's or temperature scaling afterwards, kept where it helps patients that it was not fitted to",
        "temperature scaling on the predictions that chose the weights",
        "judged where it was fitted, every calibration helps",
    ),
    Override(
        "included models",
        "linear models, forests, extra trees, LightGBM",
        "also neural networks, CatBoost, XGBoost, nearest neighbours, foundation models",
        "the extra installs no more, no bundle may hold patients' rows, and nothing is downloaded",
    ),
    Override(
        "num_cpus, num_gpus, fit_strategy, fold_fitting_strategy",
        "1, 0, sequential, sequential_local",
        "all cores, a GPU, Ray",
        "the engine runs folds side by side, one core each, so that results do not depend on the number of cores",
    ),
    Override(
        "memory_limit",
        "4 GB, or as given",
        "what is free at the moment",
        "which models are left out must not depend on what else runs",
    ),
    Override(
        "model_random_seed, vary_seed_across_folds",
        "from the study's seed, another one each bag",
        "0 for all",
        "one seed for the study; equal draws in all bags do not average out",
    ),
    Override(
        "rare classes",
        "a class that fewer than two inner folds have is not learnt; its share is its probability",
        "rows of rare classes are duplicated or dropped",
        "a duplicated patient would lie on both sides of a bag, and dropping says nothing of it",
    ),
    Override(
        "hyperparameter_tune_kwargs, feature_prune_kwargs", "none", "none", "stated, because presets may set them"
    ),
)

LINEAR = {"proc.skew_threshold": None, "n_jobs": None}
TREES = {"criterion": "entropy", "n_estimators": 100, "min_samples_leaf": 3}
BOOSTED = {"num_boost_round": 100, "learning_rate": 0.05, "num_leaves": 4, "min_data_in_leaf": 5,
           "feature_fraction": 0.8, "ag_args": {"name_suffix": "Depth2"}}  # fmt: skip
STUMPS = {"num_boost_round": 150, "learning_rate": 0.05, "num_leaves": 2, "min_data_in_leaf": 5,
          "feature_fraction": 0.8, "ag_args": {"name_suffix": "Stumps"}}  # fmt: skip

# Preset → name of AutoGluon's portfolio; refit: one model on all patients in place of the bag of fold models.
PORTFOLIOS = {
    "medium_quality": "default",
    "good_quality": "light",
    "high_quality": "zeroshot",
    "best_quality": "zeroshot",
}
REFIT = ("good_quality", "high_quality")


def portfolio(presets: str, problem: str) -> dict[Any, list[dict[str, Any]]]:
    """Models for AutoGluon's `hyperparameters`: family, or class of its models, → settings of each.

    problem : binary or multiclass, in AutoGluon's words
    """
    from osml.predictors.autogluon_gbm import FixedRounds, Sealed

    if presets == "small_n":
        linear = [{**LINEAR, "C": c, "ag_args": _first(f"C{c:g}")} for c in (1.0, 0.1, 0.01)]
        return {"LR": linear, "RF": [TREES], "XT": [TREES], FixedRounds: [BOOSTED, STUMPS]}
    from autogluon.tabular.configs.hyperparameter_configs import get_hyperparameter_config

    whole = get_hyperparameter_config(PORTFOLIOS[presets])
    found = {family: whole[family] for family in FAMILIES if family in whole}
    listed = {family: block if isinstance(block, list) else [block] for family, block in found.items()}
    kinds: dict[str, Any] = {"GBM": Sealed}
    return {
        kinds.get(family, family): [one for one in several if _fits(one, problem)] for family, several in listed.items()
    }


def _first(suffix: str) -> dict[str, Any]:
    """Linear models before all others: with a time limit the simplest ones are there."""
    return {"name_suffix": suffix, "priority": 100}


def _fits(settings: dict[str, Any], problem: str) -> bool:
    kinds = settings.get("ag_args", {}).get("problem_types")
    return kinds is None or problem in kinds
