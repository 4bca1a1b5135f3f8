#!/usr/bin/python3
"""Measures PostgreSQL's processor time for recording and notifying batches of
events, beside that of a plain INSERT of the same rows into the same indexes.

    tests/bench/record_cost.py [--batch N] [--tasks N] [--rounds N]

The three statements of a batch run one after the other on one connection, each in
a transaction of its own. The times are those that the kernel counts for the
backend, so that other programs on the machine matter little. The server runs
without fsync, because a disk costs no processor time.
"""

import argparse
import ctypes
import ctypes.util
import re
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))

from harness.postgres import Cluster, Database    # noqa: E402 pylint: disable=wrong-import-position

SOURCE = Path(__file__).resolve().parents[2]
SETTINGS = ("fsync = off", "max_wal_size = 16GB", "checkpoint_timeout = 1h", "autovacuum = off")
LINE = ("PENDING", "ESTIMATE_PENDING", "ACCEPTED", "IN_PROGRESS", "SUBMITTED", "VERIFIED", "COMPLETED")
CASES = ("first events", "main line")
WARM_UP = 5     # batches
TUPLES_OK = 2   # of libpq

COLUMNS = ("event", "task_id", "status", "previous_status", "occurred_at", "received_at", "secret_name",
           "signature", "payload")
ARRAYS = ", ".join(f"b.{name}" for name in COLUMNS)
PLAIN = (f"INSERT INTO bench.events ({', '.join(COLUMNS)}, first_of_status)"
         f" SELECT i.*, true FROM bench.batches b, unnest({ARRAYS}) i WHERE b.step = %s AND b.number = %s")
RECORD = ("SELECT place, outcome, notification FROM bench.batches b,"
          f" humcli.record_batch({ARRAYS}, '10 min') WHERE b.step = %s AND b.number = %s")
NOTIFY = "SELECT humcli.notify($1, $2)"


class Backend:
    """A connection, and the processor time of its backend."""

    def __init__(self, database):
        self.connection = database.connect()
        self.schedstat = f"/proc/{self.connection.info.backend_pid}/schedstat"

        self.libpq = ctypes.CDLL(ctypes.util.find_library("pq"))
        self.libpq.PQexecParams.restype = ctypes.c_void_p

    def clock(self):
        """Returns the processor time in nanoseconds."""
        with open(self.schedstat, encoding="ascii") as file:
            return int(file.read().split()[0])

    def run(self, statement, *values):
        """Runs a statement; returns its processor time and its rows."""
        with self.connection.cursor() as cursor:
            began = self.clock()
            cursor.execute(statement, values)
            rows = cursor.fetchall() if cursor.description else []
            return self.clock() - began, rows

    def notify(self, texts):
        """Runs notify() as the responder does, with parameters that are not part of
        the statement's text; returns its processor time. psycopg2 can't do that."""
        values = (ctypes.c_char_p * 2)(literal(texts).encode(), b"{}")
        began = self.clock()
        result = ctypes.c_void_p(self.libpq.PQexecParams(
            ctypes.c_void_p(self.connection.pgconn_ptr), NOTIFY.encode(), 2, None, values, None, None, 0))
        status = self.libpq.PQresultStatus(result)
        self.libpq.PQclear(result)
        assert status == TUPLES_OK, self.libpq.PQresStatus(status)
        return self.clock() - began


def fill(database, tasks, batch, tag):
    """Makes the arrays of all batches: each step has a batch of each task."""
    database.execute(f"""
        CREATE SCHEMA IF NOT EXISTS bench;
        CREATE TABLE IF NOT EXISTS bench.events (LIKE humcli.events INCLUDING ALL);
        DROP TABLE IF EXISTS bench.batches;
        CREATE TABLE bench.batches (step int, number int, event text[], task_id text[], status text[],
            previous_status text[], occurred_at timestamptz[], received_at timestamptz[], secret_name text[],
            signature text[], payload json[], PRIMARY KEY (step, number));
        ALTER TABLE bench.batches ALTER payload SET STORAGE EXTERNAL, ALTER signature SET STORAGE EXTERNAL,
            ALTER task_id SET STORAGE EXTERNAL;
        INSERT INTO bench.batches
        SELECT s, n, array_agg('task.status_changed'::text), array_agg(t), array_agg(line[s + 1]), array_agg(line[s]),
            array_agg(at), array_agg(at), array_agg('main'::text), array_agg(repeat(md5(t), 2)),
            array_agg(format('{{"event":"task.status_changed","task_id":"%s","status":"%s",'
                '"previous_status":"%s","timestamp":"2026-03-01T12:00:00.000Z"}}', t, line[s + 1], line[s])::json)
        FROM (SELECT ARRAY{list(LINE)!r}::text[] AS line) l, generate_series(1, {len(LINE) - 1}) s,
            generate_series(1, {tasks // batch}) n, generate_series(1, {batch}) i,
            LATERAL (SELECT 'task_{tag}_' || md5(n::text || ' ' || i) AS t,
                '2026-03-01 12:00:00+00'::timestamptz + s * interval '1 h' AS at) x
        GROUP BY s, n""")


def literal(texts):
    """Returns the literal of an array, as the responder sends it."""
    return "{" + ",".join('"' + re.sub(r'(["\\\\])', r"\\\1", text) + '"' for text in texts) + "}"


def measure(backend, batches, batch):
    """Records all batches in both ways; returns the times of each statement by
    case, in microseconds an event."""
    times = {case: {name: [] for name in ("insert", "record", "notify")} for case in CASES}
    for step in range(1, len(LINE)):
        for number in range(1, batches + 1):
            plain, _ = backend.run(PLAIN, step, number)
            record, rows = backend.run(RECORD, step, number)
            assert [row[:2] for row in rows] == [(place, "recorded") for place in range(1, batch + 1)], rows
            notify = backend.notify(row[2] for row in rows)
            if number > WARM_UP:
                case = times[CASES[step > 1]]
                case["insert"].append(plain / 1000 / batch)
                case["record"].append(record / 1000 / batch)
                case["notify"].append(notify / 1000 / batch)
    return times


def rounds(count, tasks, batch):
    """Yields a row a round and case: the case, and the times of the three
    statements."""
    cluster = Cluster(SETTINGS)
    try:
        database = Database(cluster, cluster.create_database())
        database.psql("-q", "-v", "ON_ERROR_STOP=1", "-f", str(SOURCE / "sql/install.sql"))
        backend = Backend(database)
        for number in range(count):
            fill(database, tasks, batch, number)
            for case, times in measure(backend, tasks // batch, batch).items():
                yield case, *(statistics.quantiles(times[name], n=4)[0]
                              for name in ("insert", "record", "notify"))
    finally:
        cluster.remove()


def main():
    """Prints a row a round and case."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--batch", type=int, default=32, help="events in a batch (default 32)")
    parser.add_argument("--tasks", type=int, default=3200, help="tasks a round, each with 6 events (default 3200)")
    parser.add_argument("--rounds", type=int, default=3, help="(default 3)")
    options = parser.parse_args()

    print(f"batches of {options.batch}; microseconds of processor time an event, lower quartiles\n")
    print(f"{'':14}{'insert':>8}{'record':>8}{'notify':>8}{'ratio':>8}")
    for case, insert, record, notify in rounds(options.rounds, options.tasks, options.batch):
        print(f"{case:14}{insert:8.1f}{record:8.1f}{notify:8.1f}{(record + notify) / insert:8.2f}", flush=True)


if __name__ == "__main__":
    main()
