"""One cluster for all tests of a process, and fresh copies of the tree that work on it.

With `CVDM_SLURM_CGROUPS=1` all are tried where the kernel finds the processes of jobs and holds them to their memory, as on most clusters.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, NoClusterError, running
from site_tree import Site


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    try:
        with running(tmp_path_factory.mktemp("slurm") / "cluster") as made:
            yield made
    except NoClusterError as error:
        pytest.skip(f"LEFT OUT, nothing was tried on a SLURM: {error}")


@pytest.fixture(scope="session")
def accounting_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A second cluster, with slurmdbd and the account `lab`."""
    try:
        with running(tmp_path_factory.mktemp("accounting") / "cluster", account="lab") as made:
            yield made
    except NoClusterError as error:
        pytest.skip(f"LEFT OUT, nothing was tried on a SLURM that keeps accounts: {error}")


@pytest.fixture
def cgroup_site(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[Site]:
    """A fresh copy of the tree on a cluster of its own, in which the kernel holds jobs to their memory."""
    try:
        with running(tmp_path_factory.mktemp("cgroups") / "cluster", cgroups=True) as made:
            yield Site.fresh(tmp_path / "site", made)
    except NoClusterError as error:
        pytest.skip(f"LEFT OUT, nothing was tried on a SLURM with cgroups: {error}")


@pytest.fixture
def accounting_site(accounting_cluster: Cluster, tmp_path: Path) -> Site:
    """A fresh copy of the tree on the cluster that keeps accounts."""
    return Site.fresh(tmp_path / "site", accounting_cluster)


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Site:
    """A fresh copy of the tree, from which commands are typed on the cluster; nothing is acquired yet."""
    return Site.fresh(tmp_path / "site", cluster)
