"""An acquisition to look at, and a server that shows it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from viewing_world import NAME, OURS, Client, make_acquisition, serving

from cvdm_core import paths
from cvdm_core.config import Config
from cvdm_core.viewing.server import ViewServer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict[str, np.ndarray]]:
    return make_acquisition(tmp_path_factory.mktemp("facility"))


@pytest.fixture(scope="module")
def server(made: tuple[Config, dict[str, np.ndarray]]) -> Iterator[ViewServer]:
    with serving(made[0], OURS) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ViewServer) -> Client:
    return Client(server)


@pytest.fixture
def shard(made: tuple[Config, dict[str, np.ndarray]]) -> bytes:
    return (paths.raw_store(made[0], NAME) / "0/c/0/0/0/0/0").read_bytes()
