"""humcli-webhook listen --pool: each event is completed once or is a dead
letter."""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter, defaultdict

import pytest

from harness import cli as harness_cli
from harness.cli import Running
from harness.postgres import Database, is_alive, wait_until
from harness.postgres_proxy import PostgresProxy
from harness.record_calls import Delivery, at, record
from harness.subscription_calls import call, value

OK, NEGATIVE, USAGE, IO_ERROR, LATER, CONFIG = 0, 1, 64, 74, 75, 78
LISTENS = "listening on humcli_events"


@pytest.fixture(name="database")
def fixture_database(cluster, pooled):
    name = cluster.create_database(template=pooled)
    yield Database(cluster, name)
    cluster.drop_database(name)


@pytest.fixture(name="work")
def fixture_work(cli, database):
    """Returns a function that starts a worker of pool p. Workers end with the
    test."""
    started = []

    def start(*arguments, listens=True):
        worker = Running(cli, "listen", "--pool", "p", *arguments, DATABASE=database.dsn())
        started.append(worker)
        if listens:
            worker.said(LISTENS)
        return worker

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGCONT)
        worker.close()


@pytest.fixture(name="once")
def fixture_once(cli, database):
    """Returns a function that runs a worker of pool p with --once."""
    def run(*arguments, dsn=None):
        return cli("listen", "--pool", "p", "--from", "beginning", "--once", *arguments,
                   DATABASE=dsn or database.dsn())
    return run


def make(connection, **options):
    """Makes pool p, which retries soon."""
    call(connection, "subscribe", "p")
    call(connection, "pool", "p", **{"backoff": "50 ms", **options})


def put(connection, *rows):
    """Records the deliveries and notifies; returns the ids in order."""
    return [row.id for row in record(connection, rows, notify=True)]


def deliveries(tasks, each):
    """Returns that many deliveries of each of that many tasks."""
    return [Delivery(f"task_{task}", f"STATUS_{n}", occurred_at=at(60 * n))
            for n in range(each) for task in range(tasks)]


def jobs(connection, columns):
    """Returns columns of the pool's jobs, by id."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM humcli.jobs ORDER BY event_id")
        return cursor.fetchall()


def dead(connection):
    """Returns the ids of the dead letters and their errors."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT event_id, error FROM humcli.dead")
        return dict(cursor.fetchall())


def note_departures(connection):
    """Notes each job that is deleted; returns a function that reads the
    notes."""
    cursor = connection.cursor()
    cursor.execute(
        "CREATE TABLE public.gone (event_id bigint);"
        "CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$"
        "BEGIN INSERT INTO public.gone VALUES (old.event_id); RETURN NULL; END $$;"
        "CREATE TRIGGER note AFTER DELETE ON humcli.jobs"
        " FOR EACH ROW EXECUTE FUNCTION public.note()")

    def read():
        cursor.execute("SELECT event_id FROM public.gone")
        return Counter(row[0] for row in cursor.fetchall())
    return read


class Log:
    """A file to which commands append lines."""

    def __init__(self, folder):
        self.file = folder / "log"
        self.file.touch()

    def lines(self):
        return self.file.read_text().splitlines()

    def __str__(self):
        return str(self.file)


@pytest.fixture(name="log")
def fixture_log(tmp_path):
    return Log(tmp_path)


# ---- each event


def test_every_event_is_done_once_or_dead(work, connection, log, rng):
    """Two workers with four commands each. The commands crash, fail and hang,
    and a worker is killed."""
    make(connection, max_attempts=8, longest_backoff="200 ms")
    gone = note_departures(connection)
    command = (f"case $(((HUMCLI_ID * 7 + HUMCLI_ATTEMPT * 3 + {rng.randrange(10)}) % 10)) in "
               "0) test $HUMCLI_ATTEMPT -gt 2 || exit 75 ;; 1) exit 3 ;; 2) kill -9 $$ ;; "
               "3) exec timeout 0.2 sleep 1000 ;; esac; "
               "case $HUMCLI_TASK_ID in *_7) exit 9 ;; esac; "
               f'echo "$HUMCLI_ID" >>{log}')
    arguments = ["--exec", command, "--concurrency", "4", "--lease", "2s"]
    workers = [work(*arguments), work(*arguments)]
    numbers = put(connection, *deliveries(20, 10))
    poison = set(numbers[7::20])
    for step in range(1, 4):
        wait_until(lambda step=step: len(gone()) > 40 * step, "some events", limit=20)
        killed = workers.pop(0)
        killed.process.kill()
        killed.end()
        workers.append(work(*arguments, listens=False))
        connection.cursor().execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
            "current_database() AND application_name = 'humcli-webhook'")
    # One command does not fail, but its leases expire.
    stopped = workers[0]
    stopped.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: set(gone()) == set(numbers), "the last events", limit=30)
    stopped.process.send_signal(signal.SIGCONT)
    for worker in workers:
        assert worker.end(signal.SIGTERM) == OK

    assert set(gone().values()) == {1} and jobs(connection, "*") == []
    done = Counter(map(int, log.lines()))
    given_up = dead(connection)
    assert set(done) | set(given_up) == set(numbers)
    assert poison <= set(given_up) and not poison & set(done)
    # Other events are dead only after eight failed attempts.
    assert len(given_up) < len(poison) + 20
    # At most the events that were claimed when a worker ended are run twice.
    assert sum(done.values()) - len(done) <= 4 * 4


def test_a_task_keeps_its_order(work, connection, log, rng):
    """No two events of a task are claimed at a time, though many fail at
    first."""
    make(connection, in_order=True)
    rows = deliveries(6, 8)
    rng.shuffle(rows)
    numbers = put(connection, *rows)
    call(connection, "seek", "p", "beginning")
    command = (f'echo "begin $HUMCLI_TASK_ID $HUMCLI_STATUS" >>{log}; sleep 0.02; '
               f'echo "end $HUMCLI_TASK_ID $HUMCLI_STATUS" >>{log}; '
               "test $((HUMCLI_ID % 4)) -ne 0 -o $HUMCLI_ATTEMPT -ne 1")
    workers = [work("--exec", command, "--concurrency", "4", listens=False) for _ in range(2)]
    attempts = len(numbers) + sum(number % 4 == 0 for number in numbers)
    wait_until(lambda: len(log.lines()) == 2 * attempts and not jobs(connection, "*"),
               "all events", limit=30)
    for worker in workers:
        assert worker.end(signal.SIGTERM) == OK
    assert dead(connection) == {}
    out, begun = Counter(), defaultdict(list)
    for line in log.lines():
        what, task, status = line.split()
        out[task] += 1 if what == "begin" else -1
        assert out[task] in (0, 1)
        begun[task].append(status)
    assert len(begun) == 6
    for statuses in begun.values():
        assert statuses == sorted(statuses)
        assert set(statuses) == {f"STATUS_{n}" for n in range(8)}


# ---- leases


def test_a_lease_is_kept_as_long_as_the_command_runs(work, connection, tmp_path):
    make(connection)
    go = tmp_path / "go"
    os.mkfifo(go)
    worker = work("--lease", "1s", "--exec", f"read x <{go}; echo $HUMCLI_ATTEMPT")
    put(connection, Delivery("t", "A"))
    start = time.monotonic()
    wait_until(lambda: jobs(connection, "worker IS NOT NULL") == [(True,)], "the claim")
    [(name,)] = jobs(connection, "worker")
    assert name == f"{os.uname().nodename}:{worker.process.pid}"
    wait_until(lambda: time.monotonic() - start > 2.2, "two leases")
    assert call(connection, "claim", "p", "other") == []
    go.write_text("x\n", encoding="ascii")
    wait_until(lambda: not jobs(connection, "*"), "the end")
    assert worker.printed(1) == ["1"]


def test_a_lost_lease_ends_the_command(work, connection, log):
    make(connection)
    worker = work("--lease", "2s", "--exec",
                  f"test $HUMCLI_ATTEMPT -gt 2 || {{ echo $$ >>{log}; exec sleep 1000; }}")
    [number] = put(connection, Delivery("t", "A"))
    wait_until(log.lines, "the command")
    connection.cursor().execute("UPDATE humcli.jobs SET due = clock_timestamp() - interval '1 s'")
    [(_, claim_no, *_)] = call(connection, "claim", "p", "thief", 1, "60 s")
    worker.said("lease lost")
    wait_until(lambda: not is_alive(int(log.lines()[0])), "the command to end")
    # The command does not notice, and keeps running.
    assert jobs(connection, "worker, claim_no, attempts") == [("thief", claim_no, 2)]
    assert value(connection, "fail", "p", number, claim_no, "no", "0 s") == "retry"
    put(connection, Delivery("u", "A"))
    wait_until(lambda: len(log.lines()) == 2, "the other event")
    connection.cursor().execute("DELETE FROM humcli.jobs")
    worker.said("lease lost", 2)
    assert worker.end(signal.SIGTERM) == OK


def test_a_lease_lost_before_the_command(cli, database, connection, log):
    """The worker is stopped while its claim is answered, and another claims the
    event. The command does not start."""
    make(connection)
    put(connection, Delivery("t", "A"))
    with PostgresProxy(f"{database.cluster.folder}/.s.PGSQL.{database.cluster.port}") as proxy:
        proxy.hold_statement(b"FROM humcli.claim(")
        worker = Running(cli, "listen", "--pool", "p", "--lease", "1s", "--poll-only",
                         "--exec", f"echo $HUMCLI_TASK_ID >>{log}",
                         DATABASE=proxy.conninfo(f"dbname={database.name} user=postgres"))
        try:
            assert proxy.held.wait(10)
            worker.process.send_signal(signal.SIGSTOP)
            proxy.open()
            wait_until(lambda: jobs(connection, "worker"), "the claim")
            [(number, claim_no, *_)] = wait_until(
                lambda: call(connection, "claim", "p", "thief", 1, "60 s"), "the end of the lease")
            worker.process.send_signal(signal.SIGCONT)
            worker.said("lease lost")
            assert value(connection, "complete", "p", number, claim_no) is True
            put(connection, Delivery("u", "A"))
            wait_until(lambda: "u" in log.lines(), "the other event")
            assert log.lines() == ["u"]
            assert worker.end(signal.SIGTERM) == OK
        finally:
            worker.process.send_signal(signal.SIGCONT)
            worker.close()


@pytest.fixture(name="suspend_clock", scope="module")
def fixture_suspend_clock():
    source = os.path.join(os.path.dirname(harness_cli.__file__), "suspend_clock.c")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        library = os.path.join(folder, "suspend_clock.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        yield library


def test_a_lease_runs_on_while_the_machine_is_suspended(cli, database, connection, tmp_path, log,
                                                        suspend_clock):
    """The next wake-up after a suspension finds that another worker has the event."""
    if any(name.endswith("SAN_OPTIONS") for name in os.environ):
        pytest.skip("a sanitizer wants to be loaded first")
    make(connection)
    suspended = tmp_path / "suspended"
    suspended.touch()
    with subprocess.Popen(
            [cli.program, "listen", "--pool", "p", "--lease", "60s", "--concurrency", "2",
             "--exec", f"echo $$ >>{log}; exec sleep 1000"], stderr=subprocess.PIPE, text=True,
            env={**cli.environment(DATABASE=database.dsn()), "LD_PRELOAD": suspend_clock,
                 "SUSPENDED": str(suspended)}) as worker:
        try:
            put(connection, Delivery("t", "A"))
            wait_until(log.lines, "the command")
            # in one transaction, or the worker itself could claim it again
            connection.cursor().execute(
                "BEGIN; UPDATE humcli.jobs SET due = clock_timestamp() - interval '1 s'")
            assert len(call(connection, "claim", "p", "thief", 1, "60 s")) == 1
            connection.cursor().execute("COMMIT")
            suspended.write_bytes(b"x" * 100)
            put(connection, Delivery("u", "A"))
            wait_until(lambda: not is_alive(int(log.lines()[0])), "the command to end")
        finally:
            worker.kill()
    for pid in log.lines()[1:]:
        os.kill(int(pid), signal.SIGKILL)


# ---- the end


def test_the_end_finishes_or_gives_back(work, connection, tmp_path, log):
    """At the end one command finishes, one ends by SIGTERM, and one is
    killed."""
    make(connection)
    go = tmp_path / "go"
    os.mkfifo(go)
    worker = work("--concurrency", "3", "--exec",
                  f"test $HUMCLI_STATUS != B || trap '' TERM; echo $$ >>{log}; "
                  f"test $HUMCLI_STATUS = A && read x <{go} || sleep 1000")
    numbers = put(connection, *[Delivery(status, status) for status in "ABCD"])
    wait_until(lambda: len(log.lines()) == 3, "three commands")
    start = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    go.write_text("x\n", encoding="ascii")
    assert worker.end() == OK
    assert 9 < time.monotonic() - start < 18
    for pid in log.lines():
        wait_until(lambda pid=pid: not is_alive(int(pid)), "the command to end")
    left = jobs(connection, "event_id, worker, attempts, due <= clock_timestamp()")
    assert left == [(numbers[1], None, 1, True), (numbers[2], None, 1, True),
                    (numbers[3], None, 0, True)]
    assert sum("command still running: sent SIGTERM" in line for line in worker.err) == 2


# ---- results of commands and lines


def test_later_and_failed(once, work, connection, log):
    make(connection, backoff="20 s")
    first, second, third = put(connection, *[Delivery(task, "A") for task in ("75", "3", "0")])
    done = once("--concurrency", "2", "--exec", "exit $HUMCLI_TASK_ID")
    assert done.returncode == NEGATIVE, done.err
    assert jobs(connection, "event_id, worker, attempts, error") == [
        (first, None, 1, "exit code 75"), (second, None, 1, "exit code 3")]
    for (seconds,), (least, most) in zip(
            jobs(connection, "extract(epoch FROM due - clock_timestamp())::float"),
            [(-5, 1.1), (8, 26)]):
        assert least < seconds < most
    assert re.search(r"level=info .*attempt 1: command deferred it", done.err)
    assert re.search(r"level=error .*attempt 1: command failed: exit code 3", done.err)

    # The worker claims when the next job is due, without a notification.
    start = time.monotonic()
    worker = work("--exec", f"echo $HUMCLI_ID $HUMCLI_ATTEMPT >>{log}")
    wait_until(log.lines, "the first event again", limit=15)
    assert log.lines() == [f"{first} 2"] and time.monotonic() - start < 8
    connection.cursor().execute("UPDATE humcli.jobs SET attempts = 12, due = clock_timestamp()")
    call(connection, "replay", "p", [third])
    wait_until(lambda: log.lines()[1:] == [f"{third} 1"], "what is replayed")
    assert dead(connection) == {second: "exit code 3"}
    assert worker.end(signal.SIGTERM) == OK


def test_once_says_how_it_went(once, connection):
    numbers = put(connection, *deliveries(7, 1))
    make(connection, max_attempts=2, backoff="0 s")
    call(connection, "seek", "p", "beginning")
    assert once("--exec", "exit 75").returncode == LATER
    connection.cursor().execute("UPDATE humcli.jobs SET due = clock_timestamp()")
    done = once("--exec", "exit 1")
    assert done.returncode == NEGATIVE and done.err.count("is a dead letter after 2 attempts") == 7
    assert set(dead(connection)) == set(numbers)
    assert value(connection, "redrive", "p") == 7
    done = once("--exec", "echo $HUMCLI_ID", "--concurrency", "3")
    assert done.returncode == OK and sorted(map(int, done.out.split())) == numbers


def test_lines_are_done_when_they_are_written(cli, once, database, connection):
    numbers = put(connection, *deliveries(25, 1))
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [cli.program, "listen", "--pool", "p", "--from", "beginning", "--concurrency", "10"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
            env=cli.environment(DATABASE=database.dsn()))
    assert done.returncode == IO_ERROR and "can't write to stdout" in done.stderr
    assert jobs(connection, "event_id, worker, due <= clock_timestamp()") == [
        (number, None, True) for number in numbers]
    # For a user who may only consume.
    cursor = connection.cursor()
    cursor.execute("CREATE ROLE lines LOGIN IN ROLE humcli_consumer")
    try:
        cursor.execute("UPDATE humcli.subscriptions SET owner = 'lines'")
        done = once("--concurrency", "10", dsn=database.dsn("lines"))
    finally:
        cursor.execute("DROP ROLE lines")
    assert done.returncode == OK, done.err
    assert sorted(int(json.loads(line)["id"]) for line in done.out.splitlines()) == numbers
    assert "pool p exists already" in done.err
    assert jobs(connection, "*") == []


def test_lines_keep_their_lease_before_a_reader_that_sleeps(cli, database, connection):
    make(connection)
    numbers = put(connection, *[Delivery(f"t{n}", "A", payload=json.dumps({"x": "y" * 20000}))
                                for n in range(20)])
    with subprocess.Popen(
            [cli.program, "listen", "--pool", "p", "--concurrency", "20", "--lease", "1s"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=cli.environment(DATABASE=database.dsn())) as process:
        try:
            process.stdout.readline()   # then the pipe is full, and the worker waits
            start = time.monotonic()
            wait_until(lambda: time.monotonic() - start > 2.2, "two leases")
            assert call(connection, "claim", "p", "other") == []
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == OK
        finally:
            process.kill()
    assert jobs(connection, "event_id, worker, due <= clock_timestamp()") == [
        (number, None, True) for number in numbers]


# ---- errors


def test_it_says_how_to_install_the_pool(cli, cluster, template):
    name = cluster.create_database(template=template)
    database = Database(cluster, name)
    try:
        for more in ([], ["--once"]):
            done = cli("listen", "--pool", "p", *more, DATABASE=database.dsn())
            assert (done.returncode, done.out) == (CONFIG, ""), done.err
            assert "the worker pool is not installed" in done.err
        assert database.execute("SELECT 1 FROM humcli.subscriptions") == []
        [path] = re.findall(r"psql -X -v ON_ERROR_STOP=1 -d DATABASE -f ([^\s\"]+)", done.err)
        database.psql("-v", "ON_ERROR_STOP=1", "-q", "-f", path)
        assert cli("listen", "--pool", "p", "--once", DATABASE=database.dsn()).returncode == OK
    finally:
        cluster.drop_database(name)


@pytest.mark.parametrize("arguments", [
    ["--pool", "p", "--subscription", "s"], ["--subscription", "s", "--concurrency", "2"],
    ["--subscription", "s", "--lease", "5s"], ["--pool", "p", "--concurrency", "0"],
    ["--pool", "p", "--concurrency", "101"], ["--pool", "p", "--lease", "999ms"],
    ["--pool", "p", "--lease", "25h"], ["--pool", "p", "--count", "0"], ["--concurrency", "2"]])
def test_wrong_use(cli, arguments):
    done = cli("listen", *arguments)
    assert (done.returncode, done.out) == (USAGE, "") and "--" in done.err
