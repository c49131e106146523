"""Seconds to train and predict a fused head in five folds on cached embeddings, beside scikit-learn on the same folds.

    python benchmarks/bench_heads.py [--rows 2600] [--workers 2]

2,600 images of 848 patients, 1,280 embedding columns and 60 of a table; patients stay whole. scikit-learn's
MLPClassifier has the same hidden layer, batch and epochs, without presence, tokens, moving average or early stopping.
The first number is by the clock, start of the workers included; processor time is that of the folds alone.
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import partial

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from osml.engine import run_tasks
from osml.evaluation.discrimination import auc
from osml.nets.batches import Stores, column_store, store
from osml.nets.label_tree import flat_tree
from osml.nets.losses import Labels
from osml.nets.network import build_network
from osml.nets.recipe import ClassTarget, Modality, NetworkRecipe, TrainRecipe
from osml.nets.tabular import Column, fit_tabular
from osml.nets.train import predict, train

FOLDS, PATIENTS = 5, 848


def data(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of 40 factors, a table, labels that depend on both, and patients."""
    rng = np.random.default_rng(1)
    who = np.sort(rng.integers(0, PATIENTS, n))
    factors = rng.normal(size=(n, 40)) + rng.normal(size=(PATIENTS, 40))[who]
    embedding = np.maximum(factors @ rng.normal(size=(40, 1280)) / 6 + rng.normal(size=(n, 1280)), 0)
    table = rng.normal(size=(PATIENTS, 60))[who]
    score = factors[:, :5].sum(axis=1) + 2 * table[:, 0]
    patient = np.bincount(who, score, minlength=PATIENTS) / np.maximum(np.bincount(who, minlength=PATIENTS), 1)
    label = (patient + rng.normal(size=PATIENTS) > 0)[who]
    return embedding.astype(np.float32), table, label.astype(np.intp), who


def own(fold: int, n: int, fusion: str, recipe: TrainRecipe) -> tuple[float, int, float]:
    """AUC on one fold, the epochs that were run, and seconds of processor time."""
    start = time.process_time()
    embedding, table, y, who = data(n)
    test, inner = np.flatnonzero(who % FOLDS == fold), np.flatnonzero((who % FOLDS != fold) & (who // FOLDS % 5 == 0))
    rows = np.setdiff1d(np.arange(n), np.concatenate([test, inner]))
    if recipe.patience is None:
        rows = np.sort(np.concatenate([rows, inner]))
    values = {f"x{j}": column for j, column in enumerate(table.T)}
    code = fit_tabular([Column(name, "standard") for name in values], {name: v[rows] for name, v in values.items()}, {})
    source = Stores(
        {
            "image": store(torch.as_tensor(embedding), np.arange(n), n),
            "table": column_store(code.encode(values, {})),
        }
    )
    modalities = (Modality("image", "embedding", 1280), Modality("table", "tabular", code.width, start=code.start))
    network = build_network(NetworkRecipe(modalities, ClassTarget(flat_tree(["no", "yes"])), fusion=fusion), seed=fold)
    early = inner if recipe.patience is not None else None
    trained = train(network, source, Labels(y), rows, recipe, seed=fold, inner=early)
    outputs = predict(network, source, test).outputs
    return auc(y[test] == 1, outputs[:, 1] - outputs[:, 0]), len(trained.epochs), time.process_time() - start


def peer(fold: int, n: int, recipe: TrainRecipe) -> tuple[float, int, float]:
    """The same with scikit-learn, all epochs."""
    start = time.process_time()
    embedding, table, y, who = data(n)
    X = np.concatenate([embedding, table.astype(np.float32)], axis=1)
    train_rows = who % FOLDS != fold
    mean, sd = X[train_rows].mean(axis=0), X[train_rows].std(axis=0)
    model = MLPClassifier(
        (512,), batch_size=recipe.batch, max_iter=recipe.epochs, n_iter_no_change=recipe.epochs + 1, random_state=fold
    )
    warnings.simplefilter("ignore", ConvergenceWarning)
    model.fit((X[train_rows] - mean) / sd, y[train_rows])
    score = model.predict_proba((X[~train_rows] - mean) / sd)[:, 1]
    return auc(y[~train_rows] == 1, score), model.n_iter_, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2600)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    n = arguments.rows
    full, early = TrainRecipe(patience=None), TrainRecipe()
    print(f"{n} images, 1280 + 60 columns, five folds, {arguments.workers} workers of one thread")
    processor = {}
    for name, task in (
        ("concat, early stopping", partial(own, n=n, fusion="concat", recipe=early)),
        ("gated, early stopping", partial(own, n=n, fusion="gated", recipe=early)),
        ("concat, all 60 epochs", partial(own, n=n, fusion="concat", recipe=full)),
        ("scikit-learn, 60 epochs", partial(peer, n=n, recipe=full)),
    ):
        start = time.perf_counter()
        outcomes = list(run_tasks(task, range(FOLDS), workers=arguments.workers))
        clock = time.perf_counter() - start
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
        areas, epochs, busy = zip(*(outcome.result for outcome in outcomes), strict=True)
        processor[name] = sum(busy)
        print(
            f"{name:24} {clock:6.1f} s   processor {sum(busy):6.1f} s   AUC {np.mean(areas):.3f}"
            f"   epochs {np.mean(epochs):.0f}",
            flush=True,
        )
    ratio = processor["scikit-learn, 60 epochs"] / processor["concat, all 60 epochs"]
    print(f"scikit-learn / osml, processor time, all epochs: {ratio:.2f}")


if __name__ == "__main__":
    main()
