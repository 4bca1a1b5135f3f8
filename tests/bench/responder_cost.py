#!/usr/bin/python3
"""Measures the responder's processor time for an event, of several builds side by
side.

    tests/bench/responder_cost.py [--rounds N] [--seconds N] STAGE...

STAGE: the DESTDIR of a `make install` with the default prefix. Each build runs
behind a lighttpd of its own, without TLS, under wrk with 64 connections, in turn
with the others on one database.
"""

import argparse
import contextlib
import os
import pathlib
import statistics
import sys
import tempfile

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "system"))

import contenders  # noqa: E402 pylint: disable=wrong-import-position
import load  # noqa: E402 pylint: disable=wrong-import-position
from database import DISKS, BenchDatabase  # noqa: E402 pylint: disable=wrong-import-position

REQUESTS_A_SECOND = 20000


class Paths:
    """The paths of a build, as the harness has them."""

    def __init__(self, stage):
        self.stage = pathlib.Path(stage).resolve() / "usr/local"
        self.responder = self.stage / "libexec/humcli-webhook/humcli-webhook.fcgi"
        self.install_sql = TESTS.parent / "sql/install.sql"


def times(pid):
    """Returns user and system time in seconds."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return [int(field) / os.sysconf("SC_CLK_TCK") for field in fields[11:13]]


def measure(contender, requests, connections, seconds):
    """Returns the events a second, and user and system time in us an event."""
    before = times(contender.roots["receiver"])
    outcome = load.wrk(contender, requests, connections, seconds)
    after = times(contender.roots["receiver"])
    assert outcome.ok and not outcome.others, contender.logs()[-2000:]
    return outcome.ok / outcome.seconds, *((new - old) * 1e6 / outcome.ok
                                           for old, new in zip(before, after))


def main():
    """Prints a row a build."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5, help="(default 5)")
    parser.add_argument("--seconds", type=int, default=3, help="of a run (default 3)")
    parser.add_argument("--connections", type=int, default=64, help="(default 64)")
    parser.add_argument("stages", nargs="+", metavar="STAGE")
    options = parser.parse_args()

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="humcli-bench-"))
        paths = [Paths(stage) for stage in options.stages]
        database = stack.enter_context(contextlib.closing(BenchDatabase(paths[0], DISKS[0])))
        builds = []
        for each in paths:
            contenders.allow_plain_http(each.stage)
            contender = stack.enter_context(contextlib.closing(
                contenders.start(contenders.RECOMMENDED, each, database)))
            builds.append((contender, []))
        for number in range(options.rounds + 1):
            for place, (contender, rows) in enumerate(builds):
                tag = f"{number}_{place}"
                requests = load.write_requests(os.path.join(folder, tag), load.lives(tag),
                                               REQUESTS_A_SECOND * options.seconds)
                database.empty()
                row = measure(contender, requests, options.connections, options.seconds)
                if number:      # the first round warms up
                    rows.append(row)
                os.unlink(requests)

        print(f"{options.connections} connections; us of processor time an event: "
              "lower quartile, median\n")
        for stage, (_, rows) in zip(options.stages, builds):
            user, system, total = (statistics.quantiles(values, n=4)[:2] for values in (
                [row[1] for row in rows], [row[2] for row in rows],
                [row[1] + row[2] for row in rows]))
            print(f"{stage}: {user[0]:.1f} {user[1]:.1f} user, {system[0]:.1f} {system[1]:.1f} "
                  f"system, {total[0]:.1f} {total[1]:.1f} both, "
                  f"{statistics.median(row[0] for row in rows):.0f} events/s")


if __name__ == "__main__":
    main()
