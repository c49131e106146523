"""A network with an encoder that is tuned, fitted over two devices (two processes on the CPU)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from encoder_files import weights_file
from network_designs import network_cohort, network_schema

from osml.cohort.cohort import ImageTable
from osml.features.images import image_plan
from osml.nets.device import DEVICES, VARIABLE
from osml.predictors.contract import Design
from osml.predictors.network_fit import fit_network


@pytest.mark.full
def test_a_tuned_encoder_learns_the_same_over_two_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "cpu")
    encoder = {
        "model": "test_efficientnet", "weights": str(weights_file(tmp_path, "test_efficientnet")), "tune": "lora",
    }  # fmt: skip
    schema = network_schema(inner="none", train={"epochs": 3, "batch": 5}, encoders={"picture": encoder})
    cohort = network_cohort(schema, 14)
    table = next(iter(cohort.images.values()))
    pictures = np.random.default_rng(1).integers(0, 256, (len(table.row), 3, 182, 182), dtype=np.uint8)
    key = image_plan(schema, "net", "picture").key
    cohort = replace(cohort, images={key: ImageTable(pictures, table.item, table.row)})
    found = []
    for devices in ("1", "2"):
        monkeypatch.setenv(DEVICES, devices)
        model = fit_network(schema, "net", Design(cohort), np.random.SeedSequence(1))
        found.append((model.predict(Design(cohort.without_outcome())).p, model.history[0]["loss"]))
    (one, losses), (two, again) = found
    assert again == pytest.approx(losses, rel=1e-3)
    np.testing.assert_allclose(two, one, rtol=2e-3, atol=2e-4)
    assert np.ptp(one) > 1e-3
