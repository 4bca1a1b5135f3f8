"""The examples, as they are shipped, miss no event."""

import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

from harness.postgres import wait_until
from harness.record_calls import Delivery, at, record

LIMIT = 20      # seconds; an example that only polls each half minute is too late


def environment(database):
    """Returns what a reader has: no PGHOST, because the server is at Debian's
    place, which as_reader() makes. Only the port differs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PGPORT": str(database.cluster.port),
            "PGUSER": "postgres", "PGDATABASE": database.name}


def as_reader(command, database):
    """Returns the command in a mount namespace of its own, in which the
    cluster's socket is in /var/run/postgresql."""
    if os.geteuid() != 0:
        pytest.skip("a mount of its own takes root")
    os.makedirs("/var/run/postgresql", exist_ok=True)
    return ["unshare", "--mount", "sh", "-c",
            'mount --bind "$0" /var/run/postgresql && exec "$@"',
            database.cluster.folder, *command]


class Example:
    """A running example. Its output is kept line by line."""

    def __init__(self, command, database):
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(as_reader(command, database),
                                        env=environment(database), text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.lines = []
        self.thread = threading.Thread(target=self.keep)
        self.thread.start()

    def keep(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def printed(self, tasks):
        """Waits until the example has printed all of these tasks."""
        wait_until(lambda: {f"{task} SUBMITTED" for task in tasks} <= set(self.lines)
                   or self.process.poll() is not None,
                   f"{tasks}; there was {self.lines}", limit=LIMIT)
        assert self.process.poll() is None, self.lines

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()
        return self.lines


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory):
    """A folder that has the npm package pg."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("there is no npm")
    folder = tmp_path_factory.mktemp("node")
    done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, "pg"],
                          cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm install pg failed: {done.stderr[-500:]}")
    return folder


@pytest.fixture(params=["py", "php", "mjs"])
def command(request, paths):
    """The command that starts the consumer, for each language."""
    example = paths.source / "examples" / f"consumer.{request.param}"
    if request.param == "py":
        return ["/usr/bin/python3", example]
    if request.param == "php":
        if not shutil.which("php"):
            pytest.skip("there is no php")
        return ["php", example]
    return ["node", shutil.copy(example, request.getfixturevalue("node_folder"))]


def put(database, *tasks, payload="{{\"task_id\": \"{0}\", \"status\": \"SUBMITTED\"}}"):
    connection = database.connect()
    try:
        record(connection, [Delivery(task, "SUBMITTED", payload=payload.format(task))
                            for task in tasks], notify=True)
    finally:
        connection.close()


def subscribed(database):
    return database.execute("SELECT 1 FROM humcli.subscriptions")


def acknowledged(database):
    return not database.execute("SELECT 1 FROM humcli.subscriptions s, humcli.fetch(s.name)")


def test_it_misses_nothing(command, database):
    example = Example(command, database)
    try:
        wait_until(lambda: subscribed(database), "it to subscribe", limit=LIMIT)
        put(database, "first", "second")
        example.printed(["first", "second"])
        put(database, "third")
        example.printed(["third"])

        # Its connection is cut, and events arrive before it reconnects.
        rows = database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
            "current_database() AND pid <> pg_backend_pid()")
        assert rows == [(True,)]
        put(database, *[f"away{n}" for n in range(250)])
        example.printed([f"away{n}" for n in range(250)])

        # It is killed, and events arrive before it starts again.
        wait_until(lambda: acknowledged(database), "the last acknowledgement")
        seen = example.kill()
        assert len([line for line in seen if line.endswith(" SUBMITTED")]) >= 253
        put(database, "killed")
        example = Example(command, database)
        example.printed(["killed"])
        # An event that jsonb can't hold does not stop it.
        put(database, "odd", payload='{{"task_id": "{0}", "status": "SUBMITTED", "x": "\\u0000"}}')
        example.printed(["odd"])
        assert not set(seen) & set(example.lines)
    finally:
        if example.process.returncode is None:
            example.kill()


def test_what_fails_comes_again(paths, database, tmp_path):
    """Work and acknowledgement are one transaction, so that a failed event is
    delivered again."""
    text = (paths.source / "examples" / "consumer.py").read_text()
    failing = tmp_path / "failing.py"
    failing.write_text(text.replace('    print(payload["task_id"]',
                                    '    raise SystemExit(3)\n    print(payload["task_id"]'))
    assert failing.read_text() != text
    database.execute("SELECT humcli.subscribe('python', 'beginning')")
    put(database, "first")
    done = subprocess.run(as_reader(["/usr/bin/python3", failing], database),
                          env=environment(database), timeout=LIMIT, check=False)
    assert done.returncode == 3
    example = Example(["/usr/bin/python3", paths.source / "examples" / "consumer.py"], database)
    try:
        example.printed(["first"])
        example.process.send_signal(signal.SIGTERM)
        example.process.wait(LIMIT)
    finally:
        example.kill()


def test_notified_in_the_last_look(paths, database, tmp_path):
    """The notification of an event that commits after the last look comes with
    the answer to COMMIT."""
    text = (paths.source / "examples" / "consumer.py").read_text()
    slow = tmp_path / "slow.py"
    slow.write_text(text.replace("            for _, payload in rows:",
                                 "            if not rows:\n                time.sleep(1)\n"
                                 "            for _, payload in rows:"))
    assert slow.read_text() != text
    database.execute("SELECT humcli.subscribe('python', 'beginning')")
    example = Example(["/usr/bin/python3", slow], database)
    try:
        wait_until(lambda: database.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
            " AND state = 'idle in transaction'"), "the last look")
        put(database, "late")
        example.printed(["late"])
    finally:
        example.kill()


def test_psql(paths, database):
    def run():
        return database.psql("-q", "-A", "-t", "-f", str(paths.source / "examples/consumer.sql"))

    assert run() == ""
    connection = database.connect()
    record(connection, [Delivery(f"t{n}", "A", occurred_at=at(n), payload='{"n":1}')
                        for n in range(120)])
    connection.close()
    start = time.monotonic()
    assert run().splitlines() == [f't{n}|A|{{"n": 1}}' for n in range(100)]
    assert run().splitlines() == [f't{n}|A|{{"n": 1}}' for n in range(100, 120)]
    assert run() == ""
    assert time.monotonic() - start < LIMIT
