"""humcli-webhook listen --subscription: each event is delivered, whichever
process dies."""

import ctypes
import json
import os
import re
import select
import signal
import socket
import subprocess
import threading
import time

import psycopg2
import pytest

from harness.cli import Running
from harness.failover import PgBouncer, Standby
from harness.postgres import Cluster, Database, is_alive, wait_until
from harness.record_calls import SIGNATURE, Delivery, at, record

OK, NEGATIVE, DATA, UNAVAILABLE, IO_ERROR, LATER, NO_PERMISSION, CONFIG \
    = 0, 1, 65, 69, 74, 75, 77, 78
LISTENS = "listening on humcli_events"


def deliveries(count, tasks=1):
    """Returns that many deliveries, spread over the tasks, none of them a
    repeat."""
    return [Delivery(f"task_{n % tasks}", f"STATUS_{n // tasks}", occurred_at=at(n))
            for n in range(count)]


def put(database, *rows, notify=True):
    """Records the deliveries and notifies; returns the ids in order."""
    connection = database.connect()
    try:
        return [row.id for row in record(connection, rows, notify=notify)]
    finally:
        connection.close()


def recorded(database):
    """Returns the ids of all events."""
    return [row[0] for row in database.execute("SELECT id FROM humcli.events ORDER BY id")]


def acknowledged(database):
    """Returns true if subscription s has acknowledged all events."""
    return not database.execute("SELECT 1 FROM humcli.fetch('s')")


def ids(lines):
    return [int(json.loads(line)["id"]) for line in lines]


class DeliveryLog:
    """A command that writes the id of each event to a file, and the file."""

    def __init__(self, folder):
        self.file = folder / "delivered"
        self.file.touch()
        self.command = f'echo "$HUMCLI_ID" >>{self.file}'

    def ids(self):
        return [int(line) for line in self.file.read_text().split()]


@pytest.fixture
def delivered(tmp_path):
    return DeliveryLog(tmp_path)


@pytest.fixture
def consume(cli):
    """Returns a function that starts a consumer. The consumers end with the
    test."""
    started = []

    def start(database, *arguments, listens=True, name="s", dsn=None, **settings):
        consumer = Running(cli, "listen", "--subscription", name, *arguments,
                           DATABASE=dsn or database.dsn(), **settings)
        started.append(consumer)
        if listens:
            consumer.said(LISTENS)
        return consumer

    yield start
    for consumer in started:
        consumer.close()


@pytest.fixture
def once(cli, database):
    """Returns a function that runs a consumer --once --from beginning."""
    def run(*arguments, name="s", **settings):
        return cli("listen", "--subscription", name, "--from", "beginning", "--once", *arguments,
                   DATABASE=settings.pop("dsn", database.dsn()), **settings)
    return run


# ---- the delivered event

PAYLOADS = [
    ("{}", "{}"),
    ('{"task_id": "t",\r\n\t"n": 12345678901234567890.10, "n": 1e5}\n',
     '{"task_id": "t",  \t"n": 12345678901234567890.10, "n": 1e5} '),
    ('{"a":"\\n\\u0000 \\ud800 ü \U0001f600"}', '{"a":"\\n\\u0000 \\ud800 ü \U0001f600"}'),
]


def test_a_line_has_the_event(once, database):
    rows = [Delivery(f'task "{n}"\t\\ ü', "SUBMITTED", previous, payload=payload,
                     occurred_at=at(0.25), secret_name=f"s{n} ü")
            for n, (previous, (payload, _)) in enumerate(zip([None, "IN_PROGRESS", "ä"], PAYLOADS))]
    numbers = put(database, *rows)
    done = once()
    assert (done.returncode, done.out.count("\n")) == (OK, len(rows)), done.err
    for line, number, row, (_, payload) in zip(done.out.splitlines(), numbers, rows, PAYLOADS):
        fields = json.loads(line, object_pairs_hook=lambda pairs: pairs)
        assert fields[:7] == [
            ("id", str(number)), ("event", row.event), ("task_id", row.task_id),
            ("status", "SUBMITTED"), ("previous_status", row.previous_status),
            ("occurred_at", "2026-03-01T12:00:00.250000Z"),
            ("received_at", "2026-03-01T12:00:00.000000Z")]
        assert fields[7] == ("secret", row.secret_name)
        assert [key for key, _ in fields[8:]] == ["payload"]
        assert line.endswith(f',"payload":{payload}}}')


def test_a_command_gets_the_event(once, database, tmp_path):
    numbers = put(database, *[
        Delivery(f"task {n}; $(date)", "SUBMITTED", previous, payload=payload, secret_name=f"s {n}")
        for n, (previous, (payload, _)) in enumerate(zip([None, "A B", "ä"], PAYLOADS))])
    command = (f'cat >"{tmp_path}/$HUMCLI_ID"; env -0 | grep -z ^HUMCLI_[A-V] | sort -z '
               f'>"{tmp_path}/$HUMCLI_ID.env"')
    done = once("--exec", command, environment={"HUMCLI_PREVIOUS_STATUS": "stale", "HUMCLI_SIGNATURE": "stale"})
    assert (done.returncode, done.out) == (OK, ""), done.err
    for n, (number, (payload, _)) in enumerate(zip(numbers, PAYLOADS)):
        assert (tmp_path / str(number)).read_bytes() == payload.encode()
        assert (tmp_path / f"{number}.env").read_text().rstrip("\0").split("\0") == [
            "HUMCLI_ATTEMPT=1", "HUMCLI_EVENT=task.status_changed", f"HUMCLI_ID={number}",
            "HUMCLI_OCCURRED_AT=2026-03-01T12:00:00.000000Z",
            f"HUMCLI_PREVIOUS_STATUS={['', 'A B', 'ä'][n]}", f"HUMCLI_SECRET_NAME=s {n}",
            f"HUMCLI_SIGNATURE={SIGNATURE}", "HUMCLI_STATUS=SUBMITTED",
            f"HUMCLI_TASK_ID=task {n}; $(date)"]


def test_a_large_payload_reaches_who_does_not_read_it(once, database):
    put(database, Delivery("t", "A", payload=json.dumps({"x": "y" * 300000})),
        Delivery("u", "A"))
    done = once("--exec", "echo $HUMCLI_TASK_ID")
    assert (done.returncode, done.out) == (OK, "t\nu\n")
    assert len(once(name="other").out.splitlines()[0]) > 300000


def test_it_starts_where_it_is_told(once, cli, database):
    old = put(database, *deliveries(3))
    said = "subscription now created, from now on"
    done = cli("listen", "--subscription", "now", "--once", DATABASE=database.dsn())
    assert (done.returncode, done.out) == (OK, "") and said in done.err
    new = put(database, Delivery("t", "NEW"), Delivery("t", "OTHER", occurred_at=at(1)))
    assert ids(once(name="now").out.splitlines()) == new
    some = once("--status", "NEW,STATUS_1", name="some")
    assert ids(some.out.splitlines()) == [old[1], new[0]]
    assert "exists already" in once("--status", "OTHER", name="some").err
    sandbox = put(database, Delivery("u", "NEW", secret_name="sandbox"), Delivery("v", "OTHER", secret_name="live"))
    assert ids(once("--secret", "sandbox,other", name="secret").out.splitlines()) == sandbox[:1]
    assert "exists already" in once("--secret", "live", name="secret").err


# ---- exit codes: done, later, failed


def test_what_fails_comes_again_and_is_not_passed(consume, database, tmp_path):
    log = tmp_path / "log"
    log.touch()
    consumer = consume(
        database, "--exec",
        f'echo "$HUMCLI_TASK_ID $HUMCLI_ATTEMPT" >>{log}; case $HUMCLI_TASK_ID$HUMCLI_ATTEMPT in '
        "later1) exit 75 ;; failed1) exit 3 ;; killed1) kill -9 $$ ;; esac")
    put(database, *[Delivery(task, "A") for task in ("later", "failed", "killed", "good")])
    wait_until(lambda: "good 1" in log.read_text(), "the last event", limit=20)
    assert log.read_text().splitlines() == [
        "later 1", "later 2", "failed 1", "failed 2", "killed 1", "killed 2", "good 1"]
    assert consumer.end(signal.SIGTERM) == OK
    said = "".join(consumer.err)
    assert re.search(r"level=info .*task later, A.*attempt 1: command deferred it", said)
    assert re.search(r"level=error .*failed, A.*attempt 1: command failed: exit code 3", said)
    assert re.search(r"level=error .*killed, A.*attempt 1: command failed: signal 9", said)


def test_once_leaves_what_fails_to_the_next_run(once, database, delivered):
    first, second = put(database, *deliveries(2))
    assert once("--exec", "exit 75").returncode == LATER
    assert once("--exec", "exit 1").returncode == NEGATIVE
    assert once("--exec", "/nonexistent").returncode == NEGATIVE
    assert once("--exec", f"{delivered.command}; test $HUMCLI_ID = {first}").returncode == NEGATIVE
    assert once("--exec", delivered.command).returncode == OK
    assert delivered.ids() == [first, second, second]
    assert once("--exec", delivered.command).returncode == OK
    assert delivered.ids() == [first, second, second]


def test_no_line_is_acknowledged_that_could_not_be_written(cli, once, database):
    numbers = put(database, *deliveries(2))
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [cli.program, "listen", "--subscription", "s", "--from", "beginning", "--once"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
            env=cli.environment(DATABASE=database.dsn()))
    assert done.returncode == IO_ERROR and "can't write to stdout" in done.stderr
    assert ids(once().out.splitlines()) == numbers


# ---- notifications and the end


def test_it_is_notified(consume, database):
    """A notification delivers an event well before the next poll."""
    consumer = consume(database)
    start = time.monotonic()
    number = put(database, Delivery("t", "A"))
    assert ids(consumer.printed(1)) == number
    assert time.monotonic() - start < 5
    assert consumer.end(signal.SIGTERM) == OK


def test_it_only_polls_if_told(consume, database):
    consumer = consume(database, "--poll-only", listens=False)
    consumer.said("created")
    number = put(database, Delivery("t", "A"))
    assert ids(consumer.printed(1)) == number
    assert not any(LISTENS in line for line in consumer.err)
    assert consumer.end(signal.SIGINT) == OK


def running_command(consumer):
    """Returns the process ids of the command and of its child processes."""
    return running_children(consumer.process.pid)


def running_children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def test_the_end_waits_for_the_command(consume, once, database, tmp_path):
    go = tmp_path / "go"
    os.mkfifo(go)
    consumer = consume(database, "--exec", f"echo begun; read x <{go}; echo ended")
    first, second = put(database, *deliveries(2))
    consumer.printed(1)
    consumer.process.send_signal(signal.SIGTERM)
    with open(go, "w", encoding="ascii") as file:
        file.write("x\n")
    assert consumer.end() == OK
    assert consumer.out == ["begun\n", "ended\n"]
    assert ids(once().out.splitlines()) == [second] != [first]


def test_the_end_does_not_wait_for_ever(consume, once, database):
    consumer = consume(database, "--exec", "echo begun; sleep 1000")
    [number] = put(database, Delivery("t", "A"))
    consumer.printed(1)
    [command] = running_command(consumer)
    start = time.monotonic()
    assert consumer.end(signal.SIGTERM) == OK
    assert 8 < time.monotonic() - start < 15
    wait_until(lambda: not is_alive(command), "the command to end")
    assert "command still running: sent SIGTERM" in consumer.err[-2]
    assert "ended; 0 events delivered" in consumer.err[-1]
    assert ids(once().out.splitlines()) == [number]


@pytest.mark.parametrize("command", [[], ["--exec", "echo $HUMCLI_ID"]])
def test_it_ends_after_so_many(consume, once, database, command):
    numbers = put(database, *deliveries(5))
    consumer = consume(database, "--from", "beginning", "--count", "3", *command)
    assert consumer.end() == OK
    assert len(consumer.out) == 3
    assert "ended; 3 events delivered" in consumer.err[-1]
    assert ids(once().out.splitlines()) == numbers[3:]


def test_it_ends_when_the_time_is_over(consume, database):
    put(database, *deliveries(2))
    for arguments, code in (([], OK), (["--count", "3"], NEGATIVE)):
        consumer = consume(database, "--timeout", "1s", *arguments)
        assert consumer.end() == code


def test_it_ends_before_a_reader_that_sleeps(cli, once, database):
    numbers = put(database, *[Delivery(f"t{n}", "A", payload=json.dumps({"x": "y" * 20000}))
                              for n in range(20)])
    with subprocess.Popen(
            [cli.program, "listen", "--subscription", "s", "--from", "beginning"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=cli.environment(DATABASE=database.dsn())) as process:
        try:
            process.stdout.readline()   # then the pipe is full, and the consumer waits
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == OK
        finally:
            process.kill()
    assert ids(once().out.splitlines()) == numbers


def test_a_signal_is_heard_while_connecting(cli):
    """A signal ends the consumer while a server accepts connections and does
    not answer."""
    for arguments in ([], ["--subscription", "s"], ["--subscription", "s", "--once"]):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(1)
            running = Running(cli, "listen", *arguments,
                              DATABASE=f"host=127.0.0.1 port={silent.getsockname()[1]}")
            try:
                accepted, _ = silent.accept()
                start = time.monotonic()
                assert running.end(signal.SIGTERM) == OK
                assert time.monotonic() - start < 0.9
                accepted.close()
            finally:
                running.close()


def test_the_plain_listener_need_not_write(cli, database):
    database.execute("CREATE ROLE read_only LOGIN")
    try:
        database.execute("ALTER ROLE read_only SET default_transaction_read_only = on")
        running = Running(cli, "listen", "--count", "1", DATABASE=database.dsn("read_only"))
        try:
            running.said(LISTENS)
            put(database, Delivery("t", "A"))
            assert running.end() == OK and len(running.out) == 1
        finally:
            running.close()
    finally:
        database.execute("DROP ROLE read_only")


# ---- the parent and the reader


def ignore_signals():
    """Ignores the signals that nohup and some supervisors leave ignored."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTERM,
                   signal.SIGUSR1, signal.SIGRTMIN):
        signal.signal(number, signal.SIG_IGN)


def become_subreaper():
    """Makes this process the parent of orphans, as process 1 is."""
    PR_SET_CHILD_SUBREAPER = 36
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def test_a_command_has_default_signals(cli, database):
    put(database, Delivery("t", "A"))
    done = subprocess.run(
        [cli.program, "listen", "--subscription", "s", "--from", "beginning", "--once",
         "--exec", "grep -E 'Sig(Ign|Blk)' /proc/self/status"], restore_signals=False,
        preexec_fn=ignore_signals, capture_output=True, text=True, timeout=30, check=True,
        env=cli.environment(DATABASE=database.dsn()))
    assert {int(line.split()[1], 16) for line in done.stdout.splitlines()} == {0}, done.stdout


def zombies(parent):
    found = []
    for child in running_children(parent):
        with open(f"/proc/{child}/stat", encoding="ascii") as file:
            if file.read().rpartition(")")[2].split()[0] == "Z":
                found.append(child)
    return found


@pytest.mark.parametrize("arguments", [
    ["--subscription", "s", "--exec", "(sleep 0.2; exit 3) & echo $HUMCLI_ID"],
    ["--subscription", "s"], []])
def test_it_reaps_orphans(cli, database, arguments):
    """listen reaps orphans, because it may be process 1 of a container."""
    with subprocess.Popen(
            ["sh", "-c", '(sleep 0.2; exit 3) & exec "$@"', "sh", cli.program, "listen",
             *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=become_subreaper, env=cli.environment(DATABASE=database.dsn())) as process:
        try:
            assert any(LISTENS in line for line in process.stderr)
            if "s" in arguments:
                wait_until(lambda: database.execute(
                    "SELECT 1 FROM humcli.subscriptions"), "the subscription")
            for n in range(2):
                put(database, Delivery("t", f"S{n}"))
                process.stdout.readline()
            wait_until(lambda: not running_children(process.pid), "no child to be left")
            assert not zombies(process.pid)
        finally:
            process.kill()


@pytest.mark.parametrize("arguments", [["--subscription", "s", "--from", "beginning", "--once"],
                                       ["--count", "20"]])
def test_no_line_is_lost_if_stdout_does_not_block(cli, database, arguments):
    """listen loses no line if stdout returns EAGAIN, as a full socket of a
    parent such as Node does."""
    rows = [Delivery(f"t{n}", "A" * 100, payload=json.dumps({"x": "y" * 20000}))
            for n in range(20)]
    plain = "--count" in arguments
    numbers = [] if plain else put(database, *rows)
    pipe, writing = socket.socketpair()
    writing.setblocking(False)
    writing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with pipe, subprocess.Popen(
            [cli.program, "listen", *arguments], stdout=writing, stderr=subprocess.PIPE, text=True,
            env=cli.environment(DATABASE=database.dsn())) as process:
        writing.close()
        if plain:
            assert LISTENS in process.stderr.readline()
            # together the lines are more than the pipe holds
            database.execute("SELECT pg_notify('humcli_events', to_json(n || repeat('x', 7000))::text)"
                             " FROM generate_series(1, 20) n")
        else:
            wait_until(lambda: select.select([pipe], [], [], 0)[0], "the first line")
        received = b""
        while part := pipe.recv(1000):
            received += part
        assert process.wait(10) == OK, process.stderr.read()
    lines = received.decode().splitlines()
    assert len(lines) == 20
    if not plain:
        assert ids(lines) == numbers


def test_the_plain_listener_ends_before_a_reader_that_sleeps(cli, database):
    with subprocess.Popen([cli.program, "listen"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True,
                          env=cli.environment(DATABASE=database.dsn())) as process:
        try:
            assert LISTENS in process.stderr.readline()
            database.execute("SELECT pg_notify('humcli_events', to_json(n || repeat('x', 7000))::text)"
                             " FROM generate_series(1, 50) n")
            process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == OK
        finally:
            process.kill()


# ---- errors


def test_it_says_what_is_wrong(cli, once, cluster, database):
    bare = cluster.create_database()
    database.execute("CREATE ROLE stranger LOGIN")
    try:
        for name, dsn, code, said in (
                ("bad name", database.dsn(), DATA, "invalid subscription name"),
                ("s", cluster.dsn(bare), CONFIG, "humcli\\\" does not exist"),
                ("s", database.dsn("stranger"), NO_PERMISSION, "permission denied"),
                ("s", cluster.dsn("nowhere"), UNAVAILABLE, "nowhere\\\" does not exist")):
            done = once(name=name, dsn=dsn)
            assert (done.returncode, done.out) == (code, ""), done.err
            assert said in done.err
            if code == UNAVAILABLE:
                continue
            done = cli("listen", "--subscription", name, DATABASE=dsn)
            assert (done.returncode, done.out) == (code, ""), done.err
    finally:
        database.execute("DROP ROLE stranger")
        cluster.drop_database(bare)


def test_functions_of_another_version_may_give_no_row(once, database):
    """No answer is an error that is said, not a crash."""
    put(database, Delivery("t", "A"))
    [(original, arguments)] = database.execute(
        "SELECT pg_get_functiondef(oid), pg_get_function_identity_arguments(oid) FROM pg_proc"
        " WHERE proname = 'subscribe' AND pronamespace = 'humcli'::regnamespace")
    drop = f"DROP FUNCTION humcli.subscribe({arguments});"
    database.execute(drop + re.sub("RETURNS boolean(?s:.*)", "RETURNS SETOF boolean LANGUAGE sql"
                                   " AS 'SELECT true WHERE false'", original))
    done = once()
    assert done.returncode == CONFIG and "humcli-webhook doctor" in done.err
    database.execute(drop + original)
    [(original,)] = database.execute(
        "SELECT pg_get_functiondef('humcli.fetch(text, integer)'::regprocedure)")
    columns = database.execute(
        "SELECT CASE u.n WHEN min(u.n) OVER () + 1 THEN '1' ELSE 'NULL' END || '::' || u.t::regtype"
        " FROM pg_proc, unnest(proallargtypes, proargmodes) WITH ORDINALITY u (t, m, n)"
        " WHERE pg_proc.oid = 'humcli.fetch(text, integer)'::regprocedure AND u.m = 't' ORDER BY u.n")
    values = ", ".join(column for column, in columns)
    nulls = re.sub(r"AS \$function\$(?s:.*)", f"AS $$ BEGIN RETURN QUERY SELECT {values}; END $$",
                   original)
    database.execute(nulls)
    done = once()
    assert (done.returncode, done.out) == (CONFIG, "") and "humcli-webhook doctor" in done.err


def test_a_subscription_that_is_removed(consume, database):
    consumer = consume(database)
    database.execute("SELECT humcli.unsubscribe('s')")
    put(database, Delivery("t", "A"))
    assert consumer.end() == DATA
    assert "does not exist" in consumer.err[-2]


# ---- several consumers


def test_one_works_and_the_other_stands_by(consume, database, delivered):
    first = consume(database, "--exec", delivered.command)
    second = consume(database, "--exec", delivered.command)
    second.said("standing by")
    numbers = put(database, *deliveries(20))
    wait_until(lambda: len(delivered.ids()) == 20 and acknowledged(database), "20 events")
    first.process.kill()
    first.end()
    numbers += put(database, *[Delivery("more", f"S{n}", occurred_at=at(n)) for n in range(20)])
    wait_until(lambda: len(delivered.ids()) >= 40, "the other to go on", limit=20)
    assert delivered.ids() == numbers
    assert second.end(signal.SIGTERM) == OK


def test_two_that_poll_do_double_work_at_most(consume, database, delivered):
    both = [consume(database, "--poll-only", "--exec", delivered.command, listens=False)
            for _ in range(2)]
    for consumer in both:
        wait_until(lambda: database.execute(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'humcli-webhook'"
            " AND datname = current_database() OFFSET 1"), "both to connect")
    numbers = put(database, *deliveries(50))
    wait_until(lambda: set(delivered.ids()) == set(numbers), "50 events", limit=30)
    wait_until(lambda: acknowledged(database), "the last ack")
    for consumer in both:
        assert consumer.end(signal.SIGTERM) == OK


def test_once_never_runs_twice_at_a_time(consume, cli, once, database, delivered, tmp_path):
    numbers = put(database, *deliveries(3))
    go = tmp_path / "go"
    os.mkfifo(go)
    first = consume(database, "--from", "beginning", "--once", "--exec",
                    f"{delivered.command}; read x <{go}", listens=False)
    wait_until(delivered.ids, "the first event")
    second = once("--exec", delivered.command)
    assert (second.returncode, delivered.ids()) == (LATER, numbers[:1])
    assert "another consumer has subscription s" in second.err
    with open(go, "w", encoding="ascii") as file:
        for number in numbers[1:]:
            file.write("x\n")
            file.flush()
            wait_until(lambda number=number: number in delivered.ids(), "the next event")
        file.write("x\n")
    assert first.end() == OK
    assert delivered.ids() == numbers

    listening = consume(database)
    assert once().returncode == LATER
    assert listening.end(signal.SIGTERM) == OK
    assert once().returncode == OK


# ---- settings of roles and databases

SETTINGS = {
    "default_transaction_isolation": "serializable", "statement_timeout": "100ms",
    "lock_timeout": "50ms", "idle_in_transaction_session_timeout": "200ms",
    "search_path": "nowhere", "DateStyle": "SQL, DMY", "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape", "row_security": "off", "default_transaction_read_only": "on",
    "plan_cache_mode": "force_generic_plan"}
NEWER_SETTINGS = [(140000, "idle_session_timeout", "500ms"), (170000, "transaction_timeout", "200ms")]


@pytest.fixture
def tuned(cluster, database):
    """A role whose settings somebody chose for other programs."""
    version = cluster.execute("SELECT current_setting('server_version_num')::int")[0][0]
    database.execute("CREATE ROLE tuned LOGIN IN ROLE humcli_consumer")
    newer = {name: value for since, name, value in NEWER_SETTINGS if version >= since}
    for name, value in {**SETTINGS, **newer}.items():
        database.execute(f"ALTER ROLE tuned SET {name} = '{value}'")
    yield database.dsn("tuned")
    database.execute("DROP OWNED BY tuned")
    database.execute("DROP ROLE tuned")


def test_settings_of_the_role_change_nothing(consume, database, tuned, delivered):
    """Neither a slow statement, nor an idle time, nor a lock that somebody holds."""
    consumer = consume(database, "--exec", delivered.command, dsn=tuned)
    numbers = put(database, *deliveries(20, 3))
    wait_until(lambda: delivered.ids() == numbers, "20 events")
    connection = database.connect()
    with connection, connection.cursor() as cursor:     # longer than the time limits
        cursor.execute("SELECT 1 FROM humcli.subscriptions WHERE name = 's' FOR UPDATE")
        numbers += put(database, Delivery("locked", "A"))
        cursor.execute("SELECT pg_sleep(1)")
    connection.close()
    wait_until(lambda: delivered.ids() == numbers, "the last event")
    start = time.monotonic()    # idle for longer than idle_session_timeout
    wait_until(lambda: time.monotonic() - start > 1, "a second")
    numbers += put(database, Delivery("idle", "A"))
    wait_until(lambda: delivered.ids() == numbers, "the event after an idle time")
    assert consumer.end(signal.SIGTERM) == OK
    assert not [line for line in consumer.err if "level=info" not in line], consumer.err


def test_once_never_runs_twice_whatever_the_settings(consume, once, database, tuned, delivered,
                                                     tmp_path):
    """The consumer lock is held in a transaction that is idle for long."""
    put(database, *deliveries(1))
    database.execute("SELECT humcli.subscribe('s', 'beginning')")
    database.execute("UPDATE humcli.subscriptions SET owner = 'tuned'")
    go = tmp_path / "go"
    os.mkfifo(go)
    first = consume(database, "--once", "--exec", f"{delivered.command}; read x <{go}",
                    listens=False, dsn=tuned)
    wait_until(delivered.ids, "the first event")
    start = time.monotonic()    # longer than idle_in_transaction_session_timeout
    wait_until(lambda: time.monotonic() - start > 1, "a second")
    assert once("--exec", delivered.command, dsn=tuned).returncode == LATER
    go.write_text("x\n", encoding="ascii")
    assert first.end() == OK
    assert len(delivered.ids()) == 1


# ---- killed processes


class Flow:
    """Records events all the time, also while PostgreSQL restarts. end()
    returns the ids that were recorded."""

    def __init__(self, database, count, tasks=7):
        self.database = database
        self.left = deliveries(count, tasks)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        connection = None
        while self.left:
            try:
                connection = connection or self.database.connect()
                record(connection, self.left[:3], notify=True)
                del self.left[:3]
            except psycopg2.Error:
                connection = None
                time.sleep(0.05)
            time.sleep(0.002)   # the rate of the events
        if connection:
            connection.close()

    def end(self):
        self.thread.join()
        return recorded(self.database)


def assert_each_delivered(delivered, database, flow):
    """Checks that no event was skipped, and that the first deliveries of each
    task were in the order of recording."""
    numbers = flow.end()
    wait_until(lambda: set(delivered.ids()) == set(numbers), "the last events", limit=40)
    task_of = dict(database.execute("SELECT id, task_id FROM humcli.events"))
    first = {}
    for place, number in enumerate(delivered.ids()):
        first.setdefault(number, place)
    for task in set(task_of.values()):
        mine = [number for number in numbers if task_of[number] == task]
        assert sorted(mine, key=first.get) == mine
    return numbers


def test_its_connections_are_cut(consume, database, delivered):
    consumer = consume(database, "--exec", delivered.command)
    flow = Flow(database, 200)
    for step in range(1, 5):
        wait_until(lambda step=step: len(delivered.ids()) > 40 * step, "some events", limit=20)
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
            "current_database() AND application_name = 'humcli-webhook' AND "
            + ("query NOT LIKE '%humcli.%'" if step % 2 else "query LIKE '%humcli.%'"))
    numbers = assert_each_delivered(delivered, database, flow)
    assert len(numbers) == 200
    # Only events in flight when a connection was cut are delivered twice.
    assert len(delivered.ids()) <= len(numbers) + 3
    consumer.said("connection of the notification listener lost", 2)
    assert consumer.end(signal.SIGTERM) == OK


def test_it_is_killed(consume, database, delivered):
    consumer = consume(database, "--exec", delivered.command)
    flow = Flow(database, 300)
    for step in range(1, 6):
        wait_until(lambda step=step: len(delivered.ids()) > 40 * step, "some events", limit=20)
        consumer.process.kill()
        consumer.end()
        consumer = consume(database, "--exec", delivered.command, listens=False)
    numbers = assert_each_delivered(delivered, database, flow)
    assert len(numbers) == 300 and len(delivered.ids()) <= 300 + 5
    assert consumer.end(signal.SIGTERM) == OK


def test_lines_are_printed_again_after_a_kill(consume, database):
    consumer = consume(database)
    flow = Flow(database, 300)
    lines = []
    for step in range(1, 4):
        wait_until(lambda step=step, consumer=consumer: len(consumer.out) > 40, "lines", limit=20)
        consumer.process.kill()
        consumer.end()
        # the last line may be cut in the middle
        lines += [line for line in consumer.out if line.endswith("\n")]
        consumer = consume(database)
    numbers = flow.end()
    wait_until(lambda: set(ids(lines + consumer.out)) == set(numbers), "the last events")
    assert consumer.end(signal.SIGTERM) == OK


@pytest.fixture(scope="module")
def mortal():
    """A Cluster that tests may kill."""
    server = Cluster()
    yield server
    server.remove()


@pytest.fixture
def own_database(mortal, paths):
    """A database with the schema on that cluster."""
    database = Database(mortal, mortal.create_database())
    database.psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(paths.install_sql))
    return database


def test_postgresql_is_killed(consume, own_database, delivered):
    consumer = consume(own_database, "--exec", delivered.command)
    flow = Flow(own_database, 200)
    for step, die in enumerate((own_database.cluster.kill, own_database.cluster.stop), 1):
        wait_until(lambda step=step: len(delivered.ids()) > 40 * step, "some events", limit=20)
        die()
        consumer.said("can't connect to the database", step)
        own_database.cluster.start()
    numbers = assert_each_delivered(delivered, own_database, flow)
    assert len(numbers) == 200
    consumer.said(LISTENS, 3)
    assert consumer.end(signal.SIGTERM) == OK


# ---- poolers and standbys


def test_it_polls_behind_a_pooler(consume, once, database, delivered):
    pooler = PgBouncer(database.cluster, "postgres")
    try:
        dsn = f"host=127.0.0.1 port={pooler.port} dbname={database.name} user=postgres"
        consumer = consume(database, "--exec", delivered.command, dsn=dsn, listens=False)
        consumer.said("notifications do not arrive")
        numbers = put(database, *deliveries(100))
        wait_until(lambda: delivered.ids() == numbers, "100 events", limit=20)
        assert consumer.end(signal.SIGTERM) == OK
        assert sum("do not arrive" in line for line in consumer.err) == 1
        assert not any(LISTENS in line for line in consumer.err)

        numbers = put(database, *[Delivery("more", f"S{n}", occurred_at=at(n))
                                  for n in range(150)])
        assert ids(once(dsn=dsn).out.splitlines()) == numbers
    finally:
        pooler.close()


def test_a_standby_will_not_do_until_it_is_promoted(consume, own_database, delivered):
    number = put(own_database, Delivery("t", "A"))
    standby = Standby(own_database.cluster)
    try:
        database = Database(standby, own_database.name)
        consumer = consume(database, "--from", "beginning", "--exec", delivered.command,
                           listens=False)
        start = time.monotonic()
        consumer.said("the server is read-only: it is a standby")
        used = os.sysconf("SC_CLK_TCK")
        wait_until(lambda: time.monotonic() - start > 3, "three seconds")
        with open(f"/proc/{consumer.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        assert (int(fields[11]) + int(fields[12])) / used < 0.5
        assert len(consumer.err) == 2       # the fault and what helps, once
        standby.promote()
        consumer.said(LISTENS)
        wait_until(lambda: delivered.ids() == number, "the event")
        assert consumer.end(signal.SIGTERM) == OK
    finally:
        standby.remove()
