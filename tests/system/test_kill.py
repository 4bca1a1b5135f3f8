"""No acknowledged event is lost, whichever part is killed at a random moment.
This is the short form of tests/kill."""

import os

import pytest

from harness import kill_load
from harness.postgres import Cluster

KILLS = 3


@pytest.fixture(scope="module", name="cluster")
def _cluster():
    """A Cluster that tests may kill."""
    server = Cluster()
    yield server
    server.remove()


@pytest.mark.parametrize("name", kill_load.KILLERS)
def test_kill(name, paths, cluster, rng):
    if name in kill_load.NEED_ROOT and os.geteuid() != 0:
        pytest.skip("mounting a small spool needs root")
    print(kill_load.run(name, paths, cluster, rng.random(), KILLS, DEADLINE="1s"))
