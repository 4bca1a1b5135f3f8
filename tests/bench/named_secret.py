#!/usr/bin/python3
"""Measures what a request costs that names its secret in its path, with one secret in
SECRET_DIR and with 10,000, beside a request that names none.

    HUMCLI_STAGE=FOLDER tests/bench/named_secret.py [--requests N] [--rounds N]

The responder's processor time is the one that the kernel counts for its threads. It has
the checks of the files in it, which go on while there are requests. The
events are duplicates of one, so that the database's part is small and always the same.
The requests without a name are signed with the last secret of the 10,000. Then secrets
are added one by one, while requests go on: it prints how long each took to be accepted,
and how long the other requests took meanwhile.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))

# pylint: disable=wrong-import-position
from harness.postgres import Cluster, Database    # noqa: E402
from harness.responder import FastCGI, event      # noqa: E402

SOURCE = Path(__file__).resolve().parents[2]
MANY = 10_000
WARM_UP = 3     # seconds


def names(count):
    return {f"task-{n:05}": f"whsec_{n:064x}" for n in range(count)}


def processor_time(pid):
    """Returns the nanoseconds of all threads."""
    return sum(int(path.read_text(encoding="ascii").split()[0])
               for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def measure(responder, body, secret, path, count):
    """Returns the median time of a request, and the processor time, in us."""
    began, times = processor_time(responder.pid), []
    for _ in range(count):
        answer = responder.post(body, secret, changes={"PATH_INFO": path})
        assert answer.status == 200, answer.body
        times.append(answer.seconds * 1e6)
    return statistics.median(times), (processor_time(responder.pid) - began) / 1000 / count


def rows(program, conninfo, count):
    """Yields the name of a case and its two figures."""
    for secrets, cases in ((1, ("named",)), (MANY, ("named", "not named"))):
        known = names(secrets)
        last = f"task-{secrets - 1:05}"
        with FastCGI(program, conninfo, secrets=known) as responder:
            body = event()
            # Files younger than a second are read again at each check.
            end = time.monotonic() + WARM_UP
            while time.monotonic() < end:
                measure(responder, body, known[last], f"/{last}", 10)
            for case in cases:
                yield (f"{secrets:6,} secrets, {case}", *measure(
                    responder, body, known[last], f"/{last}" if case == "named" else "", count))


def check_time(program, conninfo, count):
    """Returns the processor time of a request that also checks the files, in ms."""
    known = names(MANY)
    with FastCGI(program, conninfo, secrets=known) as responder:
        body, times = event(), []
        for n in range(WARM_UP + count):
            began = processor_time(responder.pid)
            responder.post(body, known["task-05000"], changes={"PATH_INFO": "/task-05000"})
            if n >= WARM_UP:
                times.append((processor_time(responder.pid) - began) / 1e6)
            time.sleep(1)
    return statistics.median(times)


def additions(program, conninfo, count):
    """Returns how long each new secret took, and the times of the other requests."""
    known, waits, others = names(MANY), [], []
    with FastCGI(program, conninfo, secrets=known) as responder:
        body = event()
        for n in range(count):
            responder.add_secret(f"new-{n}", f"whsec_new_{n}")
            start = time.monotonic()
            while responder.post(body, f"whsec_new_{n}",
                                 changes={"PATH_INFO": f"/new-{n}"}).status != 200:
                others.append(responder.post(body, known["task-05000"],
                                             changes={"PATH_INFO": "/task-05000"}).seconds)
            waits.append(time.monotonic() - start)
    return waits, others


def main():
    """Prints a row a case, then the additions."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--requests", type=int, default=2000, help="of a case and round (default 2000)")
    parser.add_argument("--rounds", type=int, default=3, help="(default 3)")
    options = parser.parse_args()
    program = Path(os.environ["HUMCLI_STAGE"]) / "usr/local/libexec/humcli-webhook/humcli-webhook.fcgi"

    cluster = Cluster(("fsync = off",))
    try:
        database = Database(cluster, cluster.create_database())
        database.psql("-q", "-v", "ON_ERROR_STOP=1", "-f", str(SOURCE / "sql/install.sql"))
        figures = {}
        for _ in range(options.rounds):
            for case, *both in rows(program, database.dsn(), options.requests):
                figures.setdefault(case, []).append(both)
        print(f"{'medians of the rounds, us a request':40}{'time':>8}{'CPU':>8}")
        for case, each in figures.items():
            print(f"{case:40}" + "".join(f"{statistics.median(part):8.0f}" for part in zip(*each)))
        print(f"\na request that also checks the {MANY:,} files, twice a second at most: CPU"
              f" {check_time(program, database.dsn(), 5):.1f} ms")
        waits, others = additions(program, database.dsn(), 10)
        print(f"a secret more is accepted after {statistics.median(waits):.2f} s, at most"
              f" {max(waits):.2f} s; meanwhile a request takes {statistics.median(others) * 1e3:.1f} ms,"
              f" 99 % at most {sorted(others)[len(others) * 99 // 100] * 1e3:.0f} ms")
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
