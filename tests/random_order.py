"""A pytest plugin (-p tests.random_order) that runs the tests in random order.
The plugin prints the seed, and HUMCLI_SEED=<seed> repeats the order. The lanes
of pytest-xdist have the seed from the environment, because they must agree on the
order. The tests of a module stay together, because they share servers.
HUMCLI_SAMPLE=<n> runs one in n of each module's tests."""

import os
import random

import pytest

SEED = int(os.environ.setdefault("HUMCLI_SEED", str(random.randrange(1 << 32))))
SAMPLE = int(os.environ.get("HUMCLI_SAMPLE") or 1)


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"order: HUMCLI_SEED={SEED}")


# First, because pytest then brings the tests together that share a fixture with
# a parameter.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    draw = random.Random(SEED)
    modules = {}
    for item in items:
        modules.setdefault(item.nodeid.split("::")[0], []).append(item)
    names = list(modules)
    draw.shuffle(names)
    for name in names:
        draw.shuffle(modules[name])
    chosen = [item for name in names for item in modules[name][::SAMPLE]]
    if SAMPLE > 1:
        config.hook.pytest_deselected(items=[item for name in names for place, item in enumerate(modules[name])
                                             if place % SAMPLE])
    items[:] = chosen
