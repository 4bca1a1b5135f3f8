"""A fault of the server is not the event's: an error that the event's data
can't cause never brings an event into the quarantine, and never holds up
another event. A trigger of the site raises the errors."""

import concurrent.futures
import contextlib
import os
import re
import subprocess
import time

import pytest

from harness.responder import (CGI, FastCGI, as_test_user, event, eventually, new_task,
                               raw_event, sign, task_of)
from harness.spool import Spool

RECEIVED = b'{"received":true}'
SPOOLED = b'{"received":true,"spooled":true}'
# Errors that say nothing about the event, at least one of each kind.
FAULTS = ["XX001", "XX000", "P0001", "23502", "23514", "23505", "54000", "F0000",
          "0A000", "38000", "39000", "HV000", "72000", "2D000", "57014", "53200",
          "53100", "58030", "40001", "55P03", "55000", "42P01", "42501", "28000",
          "3F000", "25006", "57P01", "08006",
          # An event's data causes these, too; but this data does not.
          "22P02", "22023", "54001"]

TRIGGER = """
CREATE TABLE public.faults (task_id text, sqlstate text);
GRANT SELECT ON public.faults TO PUBLIC;
CREATE FUNCTION public.raise_fault() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    fault text;
BEGIN
    SELECT sqlstate INTO fault FROM public.faults
     WHERE task_id IN (NEW.task_id, '*') LIMIT 1;
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'not with this site' USING ERRCODE = fault;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER raise_fault BEFORE INSERT ON humcli.events
   FOR EACH ROW EXECUTE FUNCTION public.raise_fault();
"""


@pytest.fixture(name="site", scope="module")
def _site(store):
    """The database of a site with the trigger."""
    store.query(TRIGGER)
    return store


@pytest.fixture(name="spool")
def _spool():
    with Spool() as it:
        yield it


@contextlib.contextmanager
def fault(site, sqlstate, *tasks):
    """The trigger raises this SQLSTATE for these tasks; for all if none."""
    for task in tasks or ("*",):
        site.query("INSERT INTO public.faults VALUES (%s, %s)", task, sqlstate)
    try:
        yield
    finally:
        site.query("DELETE FROM public.faults")


def responder(paths, site, spool, kind=FastCGI, **settings):
    return kind(paths.responder, site.conninfo, SPOOL=spool.path, **settings)


def post_all(it, bodies, workers=16):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(it.post, bodies))


def recorded(site, bodies):
    [(count,)] = site.query("SELECT count(*) FROM humcli.events WHERE task_id = ANY(%s)",
                            [task_of(body) for body in bodies])
    return count


def in_quarantine(site, bodies):
    [(count,)] = site.query("SELECT count(*) FROM humcli.quarantine WHERE signature = ANY(%s)",
                            [sign(body) for body in bodies])
    return count


@pytest.mark.parametrize("sqlstate", FAULTS)
def test_one_task_refused_live(sqlstate, paths, site, spool):
    """The event is spooled and waits; its neighbours are recorded, and it is
    recorded once the site accepts it."""
    bad, good = event(), [event() for _ in range(24)]
    with responder(paths, site, spool) as it:
        it.assert_serving()
        with fault(site, sqlstate, task_of(bad)):
            answers = post_all(it, [*good[:12], bad, *good[12:]], 25)
            assert {a.status for a in answers} == {200}, it.log()
            assert answers.pop(12).body == SPOOLED
            assert eventually(lambda: recorded(site, good) == 24, 10), it.log()
            # The neighbours that were spooled with it have left the spool.
            assert eventually(lambda: spool.waiting == [sign(bad)], 10), it.log()
            # A later one is recorded at once.
            assert it.post(event()).body in (RECEIVED, SPOOLED)
            assert eventually(lambda: spool.waiting == [sign(bad)], 10), it.log()
        assert sqlstate in it.log()
        assert eventually(lambda: not spool.waiting, 20), it.log()
        assert not spool.failed
    assert recorded(site, [bad]) == 1
    assert not in_quarantine(site, [bad, *good])


@pytest.mark.parametrize("sqlstate", FAULTS)
def test_all_refused_live(sqlstate, paths, site, spool):
    bodies = [event() for _ in range(10)]
    with responder(paths, site, spool, DEADLINE="1s") as it:
        it.assert_serving()
        with fault(site, sqlstate):
            assert {a.body for a in post_all(it, bodies)} == {SPOOLED}, it.log()
            assert len(spool.waiting) == 10
        assert eventually(lambda: not spool.waiting, 20), it.log()
    assert recorded(site, bodies) == 10
    assert not in_quarantine(site, bodies)


@pytest.mark.parametrize("sqlstate", FAULTS)
def test_cgi(sqlstate, paths, site, spool):
    bad, good = event(), event()
    with responder(paths, site, spool, CGI, DEADLINE="1s") as it:
        with fault(site, sqlstate, task_of(bad)):
            assert it.post(bad).body == SPOOLED, it.log()
            assert eventually(lambda: it.post(good).body in (
                RECEIVED, b'{"received":true,"duplicate":true}')), it.log()
        assert sqlstate in it.log()
        assert eventually(lambda: it.post(event()).body == RECEIVED
                          and not spool.waiting, 20), it.log()
    assert recorded(site, [bad, good]) == 2
    assert not in_quarantine(site, [bad, good])


@pytest.mark.parametrize("sqlstate", FAULTS)
def test_out_of_the_spool(sqlstate, paths, site, spool):
    """The oldest file is refused; the files behind it are recorded."""
    spool.make()
    bad, good = event(), [event() for _ in range(99)]
    for age, body in enumerate([*good, bad]):
        spool.put(body, age=age)
    with fault(site, sqlstate, task_of(bad)), responder(paths, site, spool) as it:
        assert eventually(lambda: recorded(site, good) == 99, 10), it.log()
        assert eventually(lambda: spool.waiting == [sign(bad)]), it.log()
    assert not spool.failed and not in_quarantine(site, [bad, *good])


def test_many_refused_hold_up_nothing(paths, site, spool):
    """More files than one drain reads are refused, all older than the rest."""
    spool.make()
    task, good = new_task(), [event() for _ in range(20)]
    bad = [event(task_id=task, timestamp=f"2026-03-01T12:{n // 60:02}:{n % 60:02}Z")
           for n in range(300)]
    for age, body in enumerate([*good, *bad]):
        spool.put(body, age=age)
    with fault(site, "P0001", task), responder(paths, site, spool) as it:
        assert eventually(lambda: recorded(site, good) == 20, 20), it.log()
        assert eventually(lambda: len(spool.waiting) == 300, 10)


def test_many_refused_hold_up_nothing_in_cgi(paths, site, spool):
    """Each process drains a little, and none starts with the same files."""
    spool.make()
    task, good = new_task(), [event() for _ in range(20)]
    bad = [event(task_id=task, timestamp=f"2026-03-01T12:{n // 60:02}:{n % 60:02}Z")
           for n in range(150)]
    for age, body in enumerate([*good, *bad]):
        spool.put(body, age=age)
    with fault(site, "P0001", task), responder(paths, site, spool, CGI) as it:
        assert eventually(lambda: it.post(event()).body
                          and recorded(site, good) == 20, 20), it.log()


def test_growing_pauses(paths, site, spool):
    """A refused file is tried again more and more seldom, also by the next
    process; the log names the error once a minute."""
    bad = event()
    with responder(paths, site, spool) as it, fault(site, "P0001", task_of(bad)):
        assert it.post(bad).body == SPOOLED
        refused = spool.file("refused", sign(bad))
        attempts = lambda: int(re.search(r"^attempts: (\d+)$", it.read(refused), re.M)[1])
        assert eventually(lambda: it.read(refused) and attempts() >= 3, 10), it.log()
        tried = attempts()
        assert tried < 6
        assert it.log().count("not with this site") <= 2, it.log()
        it.stop()
    with fault(site, "P0001", task_of(bad)), responder(paths, site, spool) as it:
        it.assert_serving()
        assert tried <= attempts() <= tried + 1


def test_list_and_doctor_name_the_refused(paths, site, spool):
    bad = event()
    with responder(paths, site, spool) as it, fault(site, "P0001", task_of(bad)):
        assert it.post(bad).body == SPOOLED
        assert eventually(lambda: spool.names("refused")), it.log()
        program = paths.stage / "bin" / "humcli-webhook"
        done = subprocess.run([program, "spool", "list"], capture_output=True, text=True,
                              check=True, env=it.environment(), **as_test_user())
        titles, line = done.stdout.splitlines()
        assert titles.split()[-1] == "REFUSED"
        assert sign(bad) in line and "P0001: not with this site" in line
        done = subprocess.run([program, "doctor"], capture_output=True, text=True, check=False,
                              env=it.environment(), **as_test_user())
        assert re.search(r"refuses 1 waiting event \(P0001: not with this site\)",
                         done.stdout), done.stdout


@pytest.mark.parametrize("kind", [FastCGI, CGI])
@pytest.mark.parametrize("more, status", [(b'"x":01', 400), (b'"x":' + b"[" * 30000 + b"]" * 30000, 422)])
def test_errors_of_the_data(more, status, kind, paths, site, spool):
    """PostgreSQL can't read the body: it goes to the quarantine, alone."""
    bad, good = event()[:-1] + b"," + more + b"}", [event() for _ in range(10)]
    with responder(paths, site, spool, kind) as it:
        answers = post_all(it, [bad, *good], 11)
        assert answers[0].status == status, it.log()
        assert {a.body for a in answers[1:]} == {RECEIVED}
    assert in_quarantine(site, [bad]) == 1 and not spool.waiting


@pytest.mark.parametrize("sqlstate", ["57014", "53200"])
def test_too_much_at_once(sqlstate, paths, site, spool):
    """A transaction of more than ten events fails; halves of it do not."""
    site.query(f"""
        CREATE FUNCTION public.count_events() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            n int := coalesce(nullif(current_setting('test.n', true), ''), '0')::int + 1;
        BEGIN
            PERFORM set_config('test.n', n::text, true);
            IF n > 10 THEN
                RAISE EXCEPTION 'too much' USING ERRCODE = '{sqlstate}';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER count_events BEFORE INSERT ON humcli.events
           FOR EACH ROW EXECUTE FUNCTION public.count_events()""")
    try:
        spool.make()
        bodies = [event() for _ in range(99)]
        for body in bodies:
            spool.put(body)
        with responder(paths, site, spool) as it:
            assert eventually(lambda: recorded(site, bodies) == 99, 10), it.log()
            assert eventually(lambda: not spool.waiting)
    finally:
        site.query("DROP FUNCTION public.count_events CASCADE")
    assert not in_quarantine(site, bodies)


def test_health_beside_a_batch(paths, site, spool):
    """A batch hangs on a lock: /health does not wait behind it, and says what
    a connection of its own finds out."""
    with responder(paths, site, spool, DEADLINE="10s") as it:
        it.assert_serving()
        with contextlib.closing(site.connect()) as connection, \
                concurrent.futures.ThreadPoolExecutor(1) as pool:
            connection.autocommit = False
            with connection.cursor() as cursor:
                cursor.execute("LOCK TABLE humcli.events IN ACCESS EXCLUSIVE MODE")
                # The last round trip is older than 5 s, the batch younger than
                # its deadline.
                start = time.monotonic()
                assert eventually(lambda: time.monotonic() > start + 3, 4)
                pending = pool.submit(it.post, event())
                assert eventually(lambda: time.monotonic() > start + 5.5, 3)
                health = it.get()
                assert health.body == b'{"status":"ok"}' and health.seconds < 1.2
            connection.rollback()
            assert pending.result().status == 200


@pytest.fixture(name="sleeping")
def _sleeping(site):
    """A trigger that keeps the events of one task waiting for a minute; the
    task."""
    task = new_task()
    site.query(f"""
        CREATE FUNCTION public.sleep() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.task_id = '{task}' THEN
                PERFORM pg_sleep(60);
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER sleep BEFORE INSERT ON humcli.events
           FOR EACH ROW EXECUTE FUNCTION public.sleep()""")
    yield task
    site.query("DROP FUNCTION public.sleep CASCADE")


def test_one_never_ends(sleeping, paths, site, spool):
    """A file that the database never finishes holds up no other for long."""
    spool.make()
    bad, good = event(task_id=sleeping), [event() for _ in range(99)]
    for age, body in enumerate([*good, bad]):
        spool.put(body, age=age)
    with responder(paths, site, spool) as it:
        assert eventually(lambda: recorded(site, good) == 99, 20), it.log()
        assert eventually(lambda: spool.waiting == [sign(bad)], 10), it.log()


def test_one_never_ends_in_cgi(sleeping, paths, site, spool):
    spool.make()
    bad, good = event(task_id=sleeping), [event() for _ in range(30)]
    for age, body in enumerate([*good, bad]):
        spool.put(body, age=age)
    with responder(paths, site, spool, CGI) as it:
        assert eventually(lambda: it.post(event()).status == 200
                          and recorded(site, good) == 30, 30), it.log()
        assert sign(bad) in spool.waiting


def test_one_ends_the_connection(paths, site, spool):
    """An event whose recording ends the backend is found by halving, too."""
    bad, good = event(), [event() for _ in range(40)]
    site.query(f"""
        CREATE FUNCTION public.end_backend() RETURNS trigger LANGUAGE plpgsql
        SECURITY DEFINER AS $$
        BEGIN
            IF NEW.task_id = '{task_of(bad)}' THEN
                PERFORM pg_terminate_backend(pg_backend_pid());
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER end_backend BEFORE INSERT ON humcli.events
           FOR EACH ROW EXECUTE FUNCTION public.end_backend()""")
    try:
        spool.make()
        for age, body in enumerate([*good[:20], bad]):
            spool.put(body, age=age)
        with responder(paths, site, spool) as it:
            assert {a.status for a in post_all(it, good[20:])} == {200}
            assert eventually(lambda: recorded(site, good) == 40, 20), it.log()
            assert eventually(lambda: spool.waiting == [sign(bad)], 10), it.log()
    finally:
        site.query("DROP FUNCTION public.end_backend CASCADE")
    assert not in_quarantine(site, [bad])


def test_refused_at_the_commit(paths, site, spool):
    """A deferred constraint of the site fails at the COMMIT."""
    bad, good = event(), [event() for _ in range(20)]
    site.query("""
        CREATE FUNCTION public.raise_late() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'not with this site' USING ERRCODE = '23514';
        END $$;
        CREATE CONSTRAINT TRIGGER raise_late AFTER INSERT ON humcli.events
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN (NEW.task_id = '%s') EXECUTE FUNCTION public.raise_late()""" % task_of(bad))
    try:
        with responder(paths, site, spool) as it:
            answers = post_all(it, [*good, bad], 21)
            assert answers.pop().body == SPOOLED
            assert {a.body for a in answers} == {RECEIVED}, it.log()
        with responder(paths, site, spool, CGI) as it:
            assert it.post(event()).body == RECEIVED
            assert spool.waiting == [sign(bad)]
    finally:
        site.query("DROP FUNCTION public.raise_late CASCADE")
    assert not in_quarantine(site, [bad])


# ---- rows that vanish, and a sequence at its end

SUPPRESS = """
CREATE FUNCTION public.suppress() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN RETURN NULL; END';
CREATE TRIGGER suppress BEFORE INSERT ON humcli.{table} FOR EACH ROW
	WHEN (NEW.signature = '{signature}') EXECUTE FUNCTION public.suppress()"""


@contextlib.contextmanager
def suppressed(site, table, body):
    """A trigger of the site takes the row of this body away, without an error."""
    site.query(SUPPRESS.format(table=table, signature=sign(body)))
    try:
        yield
    finally:
        site.query("DROP FUNCTION public.suppress() CASCADE")


@pytest.mark.parametrize("kind", [FastCGI, CGI])
@pytest.mark.parametrize("table", ["events", "repeats", "quarantine"])
def test_a_row_that_a_trigger_takes_away(table, kind, paths, site, spool):
    """It is never acknowledged as recorded: it is spooled, and recorded once the
    trigger is gone. Its neighbours are recorded."""
    first = event(timestamp="2026-03-01T12:00:00.000Z")
    body = {"events": event(),
            "repeats": first.replace(b"12:00:00", b"12:01:00"),
            "quarantine": b'{"event":"x","n":"' + os.urandom(8).hex().encode() + b'"}'}[table]
    with responder(paths, site, spool, kind) as it:
        assert it.post(first).body == RECEIVED
        with suppressed(site, table, body):
            answer = it.post(body)
            if table == "quarantine":
                assert answer.status == 422, it.log()
            else:
                assert (answer.status, answer.body) == (200, SPOOLED), it.log()
            assert it.post(event()).body in (RECEIVED, SPOOLED)
            assert spool.waiting.count(sign(body)) == 1
        assert "27000" in it.log()
        if kind is CGI:
            def drained():
                it.post(event())
                return not spool.waiting
        else:
            def drained():
                return not spool.waiting
        assert eventually(drained, 20), it.log()
    [(count,)] = site.query(f"SELECT count(*) FROM humcli.{table} WHERE signature = %s", sign(body))
    assert count == 1


def test_a_sequence_at_its_end(paths, site, spool):
    """No event causes that, so none is put into the quarantine."""
    body = event()
    [(last,)] = site.query("SELECT max(nextval(pg_get_serial_sequence('humcli.events', 'id')))"
                           " FROM generate_series(1, 3)")
    site.query("ALTER TABLE humcli.events ALTER id SET MAXVALUE %s", last)
    try:
        with responder(paths, site, spool) as it:
            answer = it.post(body)
            assert (answer.status, answer.body) == (200, SPOOLED), it.log()
            assert "2200H" in it.log()
            site.query("ALTER TABLE humcli.events ALTER id SET NO MAXVALUE")
            assert eventually(lambda: not spool.waiting, 20), it.log()
    finally:
        site.query("ALTER TABLE humcli.events ALTER id SET NO MAXVALUE")
    assert recorded(site, [body]) == 1
    assert not in_quarantine(site, [body])


@pytest.mark.parametrize("kind", [FastCGI, CGI])
def test_a_sequence_that_is_behind(kind, paths, site, spool):
    """It is repaired, and our own log says so, whatever the role's settings."""
    site.query("ALTER ROLE test_writer SET client_min_messages = error")
    try:
        with responder(paths, site, spool, kind) as it:
            assert it.post(event()).body == RECEIVED
            site.query("SELECT setval(pg_get_serial_sequence('humcli.events', 'id'), 1, false)")
            body = event()
            assert it.post(body).body == RECEIVED
            [line] = [line for line in it.log().splitlines() if "humcli.events.id" in line]
            assert "level=warning" in line and "behind its table" in line
            assert "logical replication" in line
    finally:
        site.query("ALTER ROLE test_writer RESET client_min_messages")
    assert recorded(site, [body]) == 1


@pytest.mark.parametrize("kind", [FastCGI, CGI])
def test_a_database_of_another_encoding(kind, cluster, database, paths, spool):
    """install.sql refuses LATIN1, but a dump can be restored there. A character
    that it lacks is no fault of the event."""
    good, bad = raw_event(',"note":"\u00e9"'), raw_event(',"note":"\u20ac"')
    code = "pg_catalog.pg_char_to_encoding('{}')"
    change = f"UPDATE pg_database SET encoding = {code} WHERE datname = '{database.name}'"
    cluster.execute(change.format("LATIN1"))
    with kind(paths.responder, database.dsn(), SPOOL=spool.path) as it:
        assert it.post(good).body == RECEIVED
        assert it.post(bad).body == SPOOLED
        assert "needs the encoding UTF8" in it.log()
    cluster.execute(change.format("UTF8"))
    with FastCGI(paths.responder, database.dsn(), SPOOL=spool.path) as it:
        assert eventually(lambda: not spool.waiting, 10), it.log()
    assert database.execute("SELECT payload::text FROM humcli.events WHERE task_id"
                            f" = '{task_of(bad)}'") == [(bad.decode(),)]
    assert not database.execute("SELECT 1 FROM humcli.quarantine")
