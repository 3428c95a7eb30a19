"""The results that the tests of the pages read."""

from __future__ import annotations

import pytest
from report_pages import BLIND, HOSTILE, SINGLE, TWO
from report_tree import add_acquisition, make_config, write_model

from cvdm_core.config import Config
from cvdm_core.report.acquisition import write_report


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A results tree with two colours and truth, without truth, and with a single estimate; one row hostile."""
    config = make_config(tmp_path_factory.mktemp("night"))
    write_model(config)
    add_acquisition(config, TWO, (96, 128), (HOSTILE, "vesicles"), note=HOSTILE, depth=2, z_step_um=0.3)
    add_acquisition(config, BLIND, (64, 80), truth=False, seed=3, split="predict")
    add_acquisition(config, SINGLE, (64, 64), uncertain=False, seed=5)
    for name in (TWO, BLIND, SINGLE):
        write_report(config, name)
    return config
