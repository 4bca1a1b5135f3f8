"""events --follow: prints what is recorded, each event once."""

import json
import os
import signal

import pytest

from harness.cli import Running
from harness.failover import PgBouncer
from harness.postgres import wait_until
from harness.record_calls import Delivery, at, put

OK, USAGE, UNAVAILABLE, CONFIG = 0, 64, 69, 78


@pytest.fixture
def follow(cli, database):
    """Returns a function that starts the verb."""
    started = []

    def start(*arguments, **settings):
        running = Running(cli, "events", "--follow", *arguments,
                          **{"DATABASE": database.dsn(), "SPOOL": "", **settings})
        started.append(running)
        return running
    yield start
    for running in started:
        running.close()


def ids(running, count):
    return [json.loads(line)["id"] for line in running.printed(count)]


def listening(database, count=1):
    """Waits until that many listeners listen."""
    sql = ("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
           " AND application_name LIKE 'humcli%' AND state = 'idle'")
    wait_until(lambda: database.execute(sql)[0][0] >= 2 * count, "it to listen")


def test_new_events_come(follow, database):
    """Also one that commits after others that have larger ids."""
    old = put(database, Delivery("old", "A", None), Delivery("old", "B", "A", at(1)))
    late = database.connect()
    with late.cursor() as cursor:
        cursor.execute("BEGIN; SELECT humcli.record_batch(ARRAY['task.status_changed'],"
                       " ARRAY['late'], ARRAY['A'], ARRAY[NULL], ARRAY[now()], ARRAY[now()],"
                       " ARRAY['main'], ARRAY['aa'], ARRAY['{}'::json], '10 min', false)")
    running = follow("--json", "--limit", "1")
    assert ids(running, 1) == [old[1]]
    listening(database)
    new = put(database, Delivery("new", "A", None, payload='{"a":\n1}'))
    database.execute("NOTIFY humcli_events, '{}'")
    assert ids(running, 2) == [old[1], *new]
    assert json.loads(running.out[1])["payload"] == {"a": 1}
    with late.cursor() as cursor:
        cursor.execute("COMMIT")
    late.close()
    database.execute("NOTIFY humcli_events, '{}'")
    assert json.loads(running.printed(3)[2])["task_id"] == "late"
    assert running.end(signal.SIGTERM) == OK and running.err == []
    assert len(running.out) == 3


def test_only_those_that_are_wanted(follow, database):
    by_status = follow("--json", "--limit", "0", "--status", "a,B")
    by_task = follow("--json", "--limit", "0", "--task", "t2")
    by_secret = follow("--json", "--limit", "0", "--secret", "two,three")
    listening(database, 3)
    wanted = put(database, Delivery("t1", "A", None), Delivery("t2", "B", None, at(1)),
                 Delivery("t2", "C", "B", at(2), secret_name="two"))
    database.execute("NOTIFY humcli_events, '{}'")
    assert ids(by_secret, 1) == [wanted[2]]
    assert ids(by_task, 2) == wanted[1:]
    # "a" is no documented status, and is taken as it is
    assert ids(by_status, 1) == [wanted[1]]
    for running in (by_status, by_task, by_secret):
        assert running.end(signal.SIGINT) == OK
    assert (len(by_status.out), len(by_task.out), len(by_secret.out)) == (1, 2, 1)


def test_a_table_goes_on(follow, database):
    put(database, Delivery("t1", "A", None))
    running = follow()
    assert running.printed(2)[0].startswith("ID  OCCURRED AT")
    listening(database)
    put(database, Delivery("t2", "A", None))
    database.execute("NOTIFY humcli_events, '{}'")
    lines = running.printed(3)
    assert [line.index("t") for line in lines[1:]] == [lines[0].index("TASK ID")] * 2
    assert running.end(signal.SIGTERM) == OK


def test_a_lost_connection_is_made_again(follow, database):
    running = follow("--json")
    listening(database)
    database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                     " datname = current_database() AND application_name LIKE 'humcli%'")
    new = put(database, Delivery("t", "A", None))
    assert ids(running, 1) == new
    listening(database)
    new += put(database, Delivery("t", "B", "A", at(1)))
    database.execute("NOTIFY humcli_events, '{}'")
    assert ids(running, 2) == new
    assert running.end(signal.SIGTERM) == OK
    assert any("connecting again" in line for line in running.err)


def test_behind_a_pooler(follow, database):
    """Polls, because notifications do not arrive."""
    bouncer = PgBouncer(database.cluster, "postgres")
    try:
        running = follow("--json", DATABASE=f"host=127.0.0.1 port={bouncer.port}"
                         f" dbname={database.name} user=postgres")
        running.said("polling instead")
        new = put(database, Delivery("t", "A", None))
        assert ids(running, 1) == new
        assert running.end(signal.SIGTERM) == OK
    finally:
        bouncer.close()


def test_more_than_a_page(follow, database):
    running = follow("--json", "--limit", "0")
    listening(database)
    count = 2500
    put(database, *(Delivery(f"t{n}", "A", None) for n in range(count)))
    database.execute("NOTIFY humcli_events, '{}'")
    printed = ids(running, count)
    assert len(set(printed)) == count
    assert running.end(signal.SIGTERM) == OK


def test_a_reader_that_sleeps_does_not_hold_up_the_end(cli, database):
    put(database, *(Delivery(f"t{n}", "A", None, payload=json.dumps("x" * 5000))
                    for n in range(100)))
    running = Running(cli, "events", "--follow", "--json", DATABASE=database.dsn(), SPOOL="")
    # nobody reads: the threads of Running are not wanted here
    running.close()
    from subprocess import PIPE, Popen    # pylint: disable=import-outside-toplevel
    with Popen([cli.program, "events", "--follow", "--json"], stdout=PIPE,
               env=cli.environment(DATABASE=database.dsn(), SPOOL="")) as process:
        os.read(process.stdout.fileno(), 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (OK, 74)


def test_wrong_use(cli, database, cluster):
    done = cli("events", "--follow", "--until", "now", DATABASE=database.dsn(), SPOOL="")
    assert done.returncode == USAGE and "not both" in done.err
    done = cli("events", "--limit", "0", DATABASE=database.dsn(), SPOOL="")
    assert done.returncode == USAGE
    done = cli("events", "--follow", DATABASE="host=/nowhere", SPOOL="")
    assert done.returncode == UNAVAILABLE
    bare = cluster.create_database()
    done = cli("events", "--follow", DATABASE=cluster.dsn(bare), SPOOL="")
    assert done.returncode == CONFIG and "run humcli-webhook init" in done.err
    cluster.drop_database(bare)
