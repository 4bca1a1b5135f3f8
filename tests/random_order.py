"""A pytest plugin (-p tests.random_order): the tests in an order drawn anew each
time, printed as a seed; HUMCLI_SEED=<seed> repeats it. Modules stay together,
since they share their servers."""

import os
import random

SEED = int(os.environ.get("HUMCLI_SEED") or random.randrange(1 << 32))


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"order: HUMCLI_SEED={SEED}")


def pytest_collection_modifyitems(items):
    draw = random.Random(SEED)
    modules = {}
    for item in items:
        modules.setdefault(item.nodeid.split("::")[0], []).append(item)
    names = list(modules)
    draw.shuffle(names)
    for name in names:
        draw.shuffle(modules[name])
    items[:] = [item for name in names for item in modules[name]]
