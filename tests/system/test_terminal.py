"""What a terminal shows and a pipe does not get: colours and progress."""

import re
import threading

import pytest

from harness.postgres import wait_until
from harness.record_calls import Delivery, at, record
from harness.responder import SECRET, event
from harness.spool import Spool
from harness.terminal import run_at_terminal

OK = 0
RED = r"\x1b\[31m([^\x1b]*)\x1b\[0m"


@pytest.fixture
def show(cli, database):
    """Returns a function that runs a verb on a terminal."""
    def run(*arguments, **others):
        return run_at_terminal(cli, *arguments, **{
            "DATABASE": database.dsn(), "SPOOL": "", **others})
    return run


@pytest.fixture
def holes(database):
    """A task with a gap, and a dead letter."""
    connection = database.connect()
    [first, _] = record(connection, [Delivery("t", "SUBMITTED", "IN_PROGRESS"),
                                     Delivery("t", "DISPUTED", "MANUAL_REVIEW", at(60))])
    connection.close()
    database.execute("SELECT humcli.subscribe('p')")
    database.execute("INSERT INTO humcli.dead (subscription, event_id, attempts, error)"
                     f" VALUES ('p', {first.id}, 3, 'no disk')")


def test_what_is_wrong_is_red(show, cli, database, holes):  # pylint: disable=unused-argument
    for verb, red in ((["gaps"], ["MANUAL_REVIEW", "IN_PROGRESS"]),
                      (["dead", "list"], ["no disk"]), (["subscriptions"], ["1"])):
        code, shown, _ = show(*verb, environment={"TERM": "xterm"})
        assert code == OK and re.findall(RED, shown) == red, (verb, shown)
        plain = cli(*verb, DATABASE=database.dsn(), SPOOL="").out
        assert re.sub(RED, r"\1", shown).replace("\r\n", "\n") == plain
        for environment in ({"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}, {}):
            assert show(*verb, environment=environment)[1].replace("\r\n", "\n") == plain
        assert "\x1b" not in cli(*verb, DATABASE=database.dsn(), SPOOL="",
                                 environment={"TERM": "xterm"}).out
        assert re.findall(RED, show(*verb, environment={"TERM": "xterm", "NO_COLOR": ""})[1]) == red
    shown = show("task", "t", environment={"TERM": "xterm"})[1]
    assert [line[:2] for line in re.findall(RED, shown)] == ["! "] * 2 == \
        [line[5:7] for line in shown.splitlines() if "missing" in line]


# ---- progress

XTERM = {"TERM": "xterm"}


def slow(database, table, what):
    """Each statement takes half a second."""
    database.execute("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
                     " 'BEGIN PERFORM pg_catalog.pg_sleep(0.5); RETURN NULL; END'")
    database.execute(f"CREATE TRIGGER slow BEFORE {what} ON {table}"
                     " FOR EACH STATEMENT EXECUTE FUNCTION slow()")


def check_progress(run, what, printed, **settings):
    """A terminal at stderr gets a line that is gone at the end; nothing else does."""
    for streams, environment in ((("stderr",), {"TERM": "dumb"}), (("stdout",), XTERM)):
        assert "a second" not in "".join(run_at_terminal(
            *run, "--help", streams=streams, environment=environment, **settings)[1:])
    code, shown, out = run_at_terminal(*run, streams=("stderr",), environment=XTERM, **settings)
    lines = shown.split("\r\x1b[K")
    assert code == OK and out == printed and lines[0] == lines[-1] == "", (code, shown, out)
    assert len(lines) > 2
    for line in lines[1:-1]:
        assert re.fullmatch(what + r", \d+ %, [\d.]+ a second(, \d+ s left)?", line), line


def many(database, count, days=10):
    database.execute(
        "INSERT INTO humcli.events (event, task_id, status, occurred_at, received_at, recorded_at,"
        " first_of_status, secret_name, signature, payload) SELECT 'e', 't' || n, 'A', r, r, r,"
        f" true, 'main', 'aa', '{{}}' FROM generate_series(1, {count}) n,"
        f" LATERAL (SELECT now() - interval '{days} days' AS r) x")


def test_progress_of_purge(cli, database):
    many(database, 2500)
    slow(database, "humcli.events", "DELETE")
    check_progress([cli, "purge", "--older-than", "2 days"], r"\d+ of 2500 tasks",
                   "2500 tasks purged\n", DATABASE=database.dsn(), SPOOL="")


def test_progress_of_replay(cli, database):
    many(database, 20_001)
    database.execute("SELECT humcli.subscribe('s', 'now')")
    slow(database, "humcli.replays", "INSERT")
    check_progress([cli, "replay", "--subscription", "s", "--since", "20d"],
                   r"\d+ of 20001 events", "20001 to be delivered again\n",
                   DATABASE=database.dsn(), SPOOL="")
    assert database.execute("SELECT count(*), count(DISTINCT event_id) FROM humcli.replays") == \
        [(20_001, 20_001)]


def test_progress_of_the_report(cli, database, tmp_path):
    """Its questions wait for a lock for half a second."""
    holder, watcher = database.connect(), database.connect()
    holder.autocommit = False
    holder.cursor().execute("LOCK TABLE humcli.events")

    def waits_long():
        with watcher.cursor() as cursor:
            cursor.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                           " AND query LIKE '%humcli.%'"
                           " AND clock_timestamp() - query_start > '0.5 s'")
            return cursor.rowcount

    def release():
        try:
            wait_until(waits_long, "no question waits for the lock")
        finally:
            holder.rollback()

    thread = threading.Thread(target=release)
    thread.start()
    code, shown, _ = run_at_terminal(
        cli, "report", "--output", str(tmp_path / "page"), streams=("stderr",),
        environment=XTERM, DATABASE=database.dsn(), SPOOL="")
    thread.join()
    holder.close()
    watcher.close()
    assert code == OK and re.search(r"\d of 7 questions, \d+ %", shown), (code, shown)


def test_progress_of_a_quarantine_retry(cli, database):
    connection = database.connect()
    with connection.cursor() as cursor:
        for n in range(3):
            cursor.execute("SELECT humcli.quarantine_add(ARRAY[now()], ARRAY['why not'],"
                           " ARRAY['default'], ARRAY[%s], ARRAY[%s::bytea])", (f"{n:064x}", event()))
    connection.close()
    slow(database, "humcli.events", "INSERT")
    check_progress([cli, "quarantine", "retry"], r"\d of 3 bodies", "3 recorded, 0 left\n",
                   DATABASE=database.dsn(), SPOOL="")


def test_progress_of_a_drain(cli, database):
    with Spool() as spool:
        spool.make()
        for _ in range(200):
            spool.put(event())
        slow(database, "humcli.events", "INSERT")
        check_progress([cli, "spool", "drain"], r"\d+ of 200 files",
                       "200 recorded, 0 moved to failed/, 0 left\n",
                       DATABASE=database.dsn(), SPOOL=spool.path, SECRET=SECRET)
