"""The verbs that query the database: their output and their changes."""

import contextlib
import json
import re
import threading

import pytest

from harness.cli import Running
from harness.failover import Standby
from harness.postgres import Database, wait_until
from harness.postgres_proxy import PostgresProxy
from harness.record_calls import Delivery, at, put
from harness.responder_database import lock_class
from harness.spool import Spool
from harness.terminal import run_at_terminal

OK, NEGATIVE, USAGE, DATA, UNAVAILABLE, LATER, CONFIG = 0, 1, 64, 65, 69, 75, 78
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
BODY = b'{"event":"task.status_changed","task_id":"%s","status":"SUBMITTED",' \
       b'"previous_status":null,"timestamp":"2026-03-01T12:00:00.000Z"}'


@pytest.fixture
def ask(cli, database):
    """Returns a function that runs a verb on the database."""
    def run(*arguments, **settings):
        return cli(*arguments, **{"DATABASE": database.dsn(), "SPOOL": "", **settings})
    return run


def objects(done):
    """Returns the objects that --json printed, one per line."""
    assert done.returncode == OK, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def table(done):
    """Returns the rows of a printed table as cells by title. Checks that the
    columns are aligned."""
    assert done.returncode == OK, done.err
    lines = done.out.splitlines()
    starts = [n for n in range(len(lines[0]))
              if lines[0][n] != " " and (n == 0 or lines[0][n - 2:n] == "  ")]
    rows = [[line[start:end].rstrip() for start, end in zip(starts, [*starts[1:], None])]
            for line in lines]
    assert all(line[start - 2:start] == "  " for line in lines for start in starts[1:])
    return [dict(zip(rows[0], row)) for row in rows[1:]]


def test_no_database_and_no_schema(cli, cluster):
    bare = cluster.create_database()
    for verb in (["events"], ["task", "t"], ["subscriptions"], ["dead", "list"],
                 ["replay", "--subscription", "s", "--id", "1"], ["quarantine", "list"],
                 ["purge", "--older-than", "2 days"]):
        done = cli(*verb, DATABASE="host=/nowhere", SPOOL="")
        assert (done.returncode, done.out) == (UNAVAILABLE, "") and "can't connect to the database" in done.err
        done = cli(*verb, DATABASE=cluster.dsn(bare), SPOOL="")
        assert (done.returncode, done.out) == (CONFIG, "") and "does not exist" in done.err
        assert "run humcli-webhook init" in done.err
    done = cli("listen", "--subscription", "s", DATABASE=cluster.dsn(bare), SPOOL="")
    assert done.returncode == CONFIG and "run humcli-webhook init" in done.err
    cluster.drop_database(bare)


def test_advice_fits_the_refused_connection(cli, database):
    """Each fault is followed by its own advice, and by where the connection
    string is."""
    dsn = database.dsn()
    for conninfo, fault, advice in (
            (f"{dsn} user=nobody_knows", 'role "nobody_knows" does not exist', "createuser"),
            (f"{dsn} dbname=nowhere", 'database "nowhere" does not exist', "init creates the database"),
            ("host=127.0.0.1 port=1", "Connection refused", "start PostgreSQL"),
            ("host=/nowhere", "No such file or directory", "the socket's folder"),
            ("hots=x", "hots", "key=value")):
        done = cli("tasks", DATABASE=conninfo, SPOOL="")
        said, advised = done.err.splitlines()
        assert done.returncode == UNAVAILABLE and fault in said and advice in advised, done.err
        assert advised.endswith("HUMCLI_WEBHOOK_DATABASE is set in the environment")
        assert "Is the server running" not in said
    done = cli("listen", "--subscription", "s", "--timeout", "1ms", SPOOL="",
               DATABASE=f"{dsn} user=nobody_knows")
    assert done.err.count("createuser") == 1, done.err


# A trap for each function and operator that a verb or doctor calls.
HOSTILE = """
CREATE SCHEMA hostile;
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
DO $do$
DECLARE
    f record;
    types constant regtype[] := ARRAY['text', 'bigint', 'int', 'name', 'timestamptz', 'interval',
        'bool', 'oid'];
    body constant text := ' LANGUAGE plpgsql AS $f$ BEGIN RAISE EXCEPTION ''a trap''; END $f$';
BEGIN
    FOR f IN SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS args,
            p.prorettype::regtype AS result
        FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace
        AND p.proname IN ('string_to_array', 'array_to_string', 'date_part', 'extract', 'now',
            'octet_length', 'encode', 'concat', 'txid_current', 'current_setting',
            'pg_is_in_recovery', 'has_schema_privilege', 'has_table_privilege',
            'has_function_privilege', 'current_database', 'to_char', 'age', 'timezone',
            'row_to_json', 'set_config', 'pg_try_advisory_lock', 'pg_try_advisory_xact_lock')
        AND p.prokind = 'f' AND NOT p.proretset AND NOT 2276 = ANY (p.proargtypes)
    LOOP
        EXECUTE format('CREATE FUNCTION hostile.%I(%s) RETURNS %s' || body, f.proname, f.args,
            f.result);
    END LOOP;
    FOR f IN SELECT o.oprleft::regtype AS l, o.oprright::regtype AS r, o.oprname AS name,
            o.oprresult::regtype AS result, o.oid FROM pg_operator o
        WHERE o.oprname IN ('=', '<>', '<', '>', '<=', '>=', '||', '-', '+', '*')
        AND o.oprleft = ANY (types) AND o.oprright = ANY (types)
    LOOP
        EXECUTE format('CREATE FUNCTION hostile.o%s(%s, %s) RETURNS %s' || body,
            f.oid, f.l, f.r, f.result);
        EXECUTE format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %s,'
            ' FUNCTION = hostile.o%s)', f.name, f.l, f.r, f.oid);
    END LOOP;
    FOR f IN SELECT unnest(ARRAY['name, name, text, text', 'name, bigint', 'bigint', 'bigint, int',
        'text']) AS args
    LOOP
        EXECUTE 'CREATE FUNCTION hostile.format(text, ' || f.args || ') RETURNS text' || body;
    END LOOP;
END $do$;
"""


def test_objects_of_others_are_not_called(ask, database):
    """Not even where the database says that they come first."""
    [first, second] = put(database, Delivery("t", "A"), Delivery("t", "B", "X", at(9)))
    quarantine_add(database, b"[]")
    database.execute("SELECT humcli.subscribe('s', 'beginning')")
    database.execute(HOSTILE)
    database.cluster.execute(f"ALTER DATABASE {database.name} SET search_path = hostile, pg_catalog")
    with pytest.raises(Exception, match="a trap"):
        database.execute("SELECT 'a'::text = 'b'::text")
    for arguments in (["events", "--task", "t", "--status", "A,B", "--since", "2020-01-01"],
                      ["task", "t"], ["subscriptions"], ["dead", "list", "--pool", "p"],
                      ["quarantine", "list"], ["listen", "--subscription", "s", "--once"],
                      ["replay", "--subscription", "s", "--id", f"{first},{second}"],
                      ["report"], ["metrics"],
                      ["purge", "--older-than", "2 days"]):
        done = ask(*arguments)
        assert done.returncode == OK and "a trap" not in done.err, (arguments, done.err)
    assert "a trap" not in ask("quarantine", "retry").err
    looked = ask("doctor")
    assert "a trap" not in looked.out + looked.err
    assert "ok    grants" in looked.out and "warn  gaps" in looked.out


def test_functions_of_another_version(ask, database):
    """They may return no row, or NULL: that is said, and nothing crashes."""
    database.psql("-v", "ON_ERROR_STOP=1", "-q", "-c", """
        DROP FUNCTION humcli.purge(interval, int);
        CREATE FUNCTION humcli.purge(interval, int) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1 LIMIT 0';
        CREATE FUNCTION humcli.redrive(text, bigint, int) RETURNS int LANGUAGE sql AS 'SELECT NULL::int';
        DROP FUNCTION humcli.replay(text, bigint[], text, text[], timestamptz, timestamptz);
        CREATE FUNCTION humcli.replay(text, bigint[], text, text[], timestamptz, timestamptz)
            RETURNS SETOF bigint LANGUAGE sql AS 'SELECT 1::bigint LIMIT 0'""")
    for arguments in (["purge", "--older-than", "2 days"], ["dead", "redrive", "--pool", "p"],
                      ["replay", "--subscription", "s", "--id", "1"]):
        done = ask(*arguments)
        assert (done.returncode, done.out) == (CONFIG, ""), arguments
        assert "unexpected answer" in done.err and "humcli-webhook doctor" in done.err
    database.execute("DROP FUNCTION humcli.subscribe")
    database.execute("CREATE FUNCTION humcli.subscribe(text, text, text[]) RETURNS SETOF boolean"
                     " LANGUAGE sql AS 'SELECT true LIMIT 0'")
    assert ask("listen", "--subscription", "s", "--once").returncode in (DATA, CONFIG, UNAVAILABLE)


def test_what_writes_goes_to_the_primary(cli, cluster, pooled):
    """Though DATABASE names the standby first; what reads takes the first."""
    own = Database(cluster, cluster.create_database(template=pooled))
    [event] = put(own, Delivery("t", "A"))
    own.execute("SELECT humcli.subscribe('s', 'beginning')")
    own.execute("SELECT humcli.subscribe('p')")
    own.execute("SELECT humcli.pool('p')")
    standby = Standby(cluster)
    try:
        wait_until(lambda: cluster.execute(
            "SELECT pg_current_wal_lsn() = replay_lsn FROM pg_stat_replication") == [(True,)],
            "the standby to have all")
        hosts = (f"host=127.0.0.1,127.0.0.1 port={standby.port},{cluster.port}"
                 f" dbname={own.name} user=postgres")
        for arguments, code, out in (
                (["replay", "--subscription", "s", "--id", event], OK, "0 to be"),
                (["dead", "redrive", "--pool", "p"], OK, "0 to be"),
                (["purge", "--older-than", "2 days"], OK, "0 tasks"),
                (["quarantine", "retry"], OK, "0 recorded"),
                (["events"], OK, "ID ")):
            done = cli(*arguments, DATABASE=hosts, SPOOL="")
            assert done.returncode == code and done.out.startswith(out), (arguments, done.err)
    finally:
        standby.remove()


# ---- events


def test_events(ask, database):
    ids = put(database, Delivery("t1", "SUBMITTED", "IN_PROGRESS", at(0.5))) \
        + put(database, Delivery("t\n2", "ÄNDERN", payload='{"a":\n"b"}'))
    first, second = objects(ask("events", "--json"))
    recorded = first.pop("recorded_at")
    assert list(first.items()) == [
        ("id", ids[0]), ("occurred_at", "2026-03-01T12:00:00.500Z"), ("task_id", "t1"),
        ("status", "SUBMITTED"), ("previous_status", "IN_PROGRESS"), ("secret_name", "default"),
        ("event", "task.status_changed"), ("received_at", "2026-03-01T12:00:00.000Z"),
        ("payload", {})]
    assert second["payload"] == {"a": "b"} and second["previous_status"] is None
    first, second = table(ask("events"))
    assert first["RECORDED AT"] == recorded and re.fullmatch(TIME, recorded)
    assert (first["ID"], first["TASK ID"], first["PREVIOUS STATUS"]) == (ids[0], "t1", "IN_PROGRESS")
    assert (second["TASK ID"], second["STATUS"], second["PREVIOUS STATUS"]) \
        == ("t\\x0a2", "\\xc3\\x84NDERN", "-")
    assert "PAYLOAD" not in first


def test_events_that_are_wanted(ask, database):
    old = put(database, Delivery("t1", "A"), Delivery("t2", "B"))
    [(middle,)] = database.execute("SELECT clock_timestamp()::text")
    new = put(database, Delivery("t1", "C", occurred_at=at(1))) \
        + put(database, Delivery("t3", "'; DROP"))

    def wanted(*options):
        return [row["id"] for row in objects(ask("events", "--json", *options))]

    assert wanted() == old + new
    assert wanted("--task", "t1") == [old[0], new[0]]
    assert wanted("--status", "A,C,B") == [*old, new[0]]
    assert wanted("--status", "'; DROP") == [new[1]]
    assert wanted("--since", middle) == new
    assert wanted("--until", middle) == old
    assert wanted("--since", middle, "--task", "t1") == [new[0]]
    assert wanted("--limit", "3") == [old[1], *new]
    assert wanted("--task", "none") == []
    assert ask("events", "--task", "none").out == ""


def test_wrong_use_of_the_queries(ask):
    for arguments, said in (
            (["events", "--limit", "0"], "--limit '0'"),
            (["events", "--limit", "x"], "--limit 'x'"),
            (["events", "x"], "unexpected argument"),
            (["task"], "the task's id is missing"),
            (["task", "a", "b"], "unexpected argument"),
            (["replay", "--id", "1"], "--subscription is missing"),
            (["replay", "--subscription", "s"], "--id, --task, --status, --since or --until is missing"),
            (["purge"], "--older-than or --tests is missing"),
            (["dead"], "missing subcommand: list or redrive"),
            (["dead", "show"], "unknown subcommand 'show': list or redrive"),
            (["dead", "list", "--id", "1"], "--id goes with redrive"),
            (["dead", "redrive", "--pool", "p", "--json"], "--json goes with list"),
            (["dead", "redrive"], "--pool is missing"),
            (["dead", "redrive", "--pool", "p", "--id", "x"], "--id 'x' is not an id"),
            (["quarantine"], "missing subcommand: list or retry"),
            (["quarantine", "show"], "unknown subcommand 'show': list or retry"),
            (["quarantine", "retry", "--json"], "--json goes with list"),
            (["quarantine", "list", "0"], "'0' is not an id"),
            (["quarantine", "list", "1,2"], "'1,2' is not an id")):
        done = ask(*arguments)
        assert (done.returncode, done.out) == (USAGE, ""), arguments
        assert said in done.err
    done = ask("events", "--since", "soon")
    assert (done.returncode, done.out) == (DATA, "")
    assert 'invalid input syntax for type timestamp with time zone: "soon"' in done.err


def test_events_by_secret(ask, database):
    ids = put(database, Delivery("t1", "A"), Delivery("t2", "B"))
    database.execute(f"UPDATE humcli.events SET secret_name = 'other' WHERE id = {ids[1]}")
    for names, wanted in (("default", ids[:1]), ("other", ids[1:]), ("other,default", ids)):
        assert [row["id"] for row in objects(ask("events", "--json", "--secret", names))] == wanted


def test_statuses_and_times_as_people_write_them(ask, database):
    ids = put(database, Delivery("t1", "SUBMITTED"), Delivery("t2", "ACCEPTED"),
              Delivery("t3", "custom"))
    database.execute(f"UPDATE humcli.events SET recorded_at = now() - interval '3 days'"
                     f" WHERE id = {ids[0]}")
    for options, wanted, warned in (
            (["--status", "submitted, Accepted"], ids[:2], False),
            (["--status", " ACCEPTED ,"], ids[1:2], False),
            (["--status", "custom"], ids[2:], True),
            (["--since", "1h"], ids[1:], False), (["--since", "90min"], ids[1:], False),
            (["--since", "4d"], ids, False), (["--until", "2d"], ids[:1], False)):
        done = ask("events", "--json", *options)
        assert [row["id"] for row in objects(done)] == wanted, options
        assert ("does not document the status 'custom'" in done.err) == warned, options
    assert "did you mean" not in ask("events", "--status", "SUBMITED").err
    assert "but 'SUBMITTED'" in ask("events", "--status", "SUBMITED").err


def at_terminal(cli, database, columns, *arguments):
    """The lines that a verb prints on a terminal of this width."""
    code, shown, _ = run_at_terminal(cli, *arguments, columns=columns, DATABASE=database.dsn(),
                                     SPOOL="")
    assert code == OK
    return shown.splitlines()


def test_tables_fit_the_terminal(cli, ask, database):
    for verb in (["events"], ["tasks"], ["gaps"], ["subscriptions"], ["dead", "list"],
                 ["quarantine", "list"]):
        assert at_terminal(cli, database, 80, *verb) == ["none"], verb
        assert ask(*verb).out == ""
    put(database, Delivery("t" * 30, "SUBMITTED", "IN_PROGRESS"))
    for columns in (40, 80, 100):
        lines = at_terminal(cli, database, columns, "events")
        assert len(lines) == 3 and max(len(line) for line in lines) <= columns
        assert re.fullmatch(r"\(\d more columns with --wide\)", lines[2])
        assert lines[0].startswith("ID  OCCURRED AT")
    lines = at_terminal(cli, database, 300, "events")
    assert lines == at_terminal(cli, database, 40, "events", "--wide") == ask("events").out.splitlines()


# ---- tasks and gaps


def test_tasks(ask, database):
    put(database, Delivery("t1", "ACCEPTED", "ESTIMATE_PENDING", at(1)),
        Delivery("t2", "COMPLETED", "VERIFIED", at(2)),
        Delivery("task_test_1", "ACCEPTED", "ESTIMATE_PENDING", at(3)))
    rows = objects(ask("tasks", "--json"))
    assert [(row["task_id"], row["status"], row["state"], row["last_event"]) for row in rows] == [
        ("task_test_1", "ACCEPTED", "test", "2026-03-01T12:00:03.000Z"),
        ("t2", "COMPLETED", "ended", "2026-03-01T12:00:02.000Z"),
        ("t1", "ACCEPTED", "open", "2026-03-01T12:00:01.000Z")]
    assert [row["TASK ID"] for row in table(ask("tasks", "--open"))] == ["t1"]
    assert [row["TASK ID"] for row in table(ask("tasks", "--status", "completed"))] == ["t2"]
    assert [row["TASK ID"] for row in table(ask("tasks", "--limit", "1"))] == ["task_test_1"]
    assert [row["TASK ID"] for row in table(ask("tasks", "--open", "--limit", "1"))] == ["t1"]
    assert ask("tasks", "--open", "--status", "completed").out == ""


def test_gaps(ask, database):
    [event, _] = put(database, Delivery("t", "SUBMITTED", "IN_PROGRESS", at(0)),
                     Delivery("task_test_1", "SUBMITTED", "IN_PROGRESS", at(3)))
    assert objects(ask("gaps", "--json")) == [
        {"task_id": "t", "missing": "IN_PROGRESS", "status": "SUBMITTED",
         "occurred_at": "2026-03-01T12:00:00.000Z", "status_before": None,
         "occurred_before": None, "kind": "start", "id": event}]
    assert table(ask("gaps", "--task", "none")) == [] if ask("gaps", "--task", "none").out else True


def test_tests_are_shown_and_purged(ask, database):
    """The tasks of send and probe leave nothing behind."""
    put(database, Delivery("t", "A"), Delivery("task_test_1", "SUBMITTED", "IN_PROGRESS", at(3)),
        Delivery("task_test_1", "SUBMITTED", "IN_PROGRESS", at(4)),
        Delivery("task_test_2", "SUBMITTED", "IN_PROGRESS", at(3)))
    quarantine_add(database, b'{"task_id":"task_test_3"', b"[]")
    database.execute("SELECT humcli.subscribe('s', 'beginning')")
    assert "a test of send or probe" in ask("task", "task_test_1").out
    done = ask("purge", "--tests")
    assert (done.returncode, done.out) == (OK, "2 test tasks purged\n"), done.err
    assert database.execute("SELECT task_id FROM humcli.deliveries") == [("t",)]
    assert [row["ID"] for row in table(ask("quarantine", "list"))] == ["2"]
    assert ask("purge", "--tests").out == "0 test tasks purged\n"


# ---- task


def test_a_tasks_history(ask, database):
    put(database, Delivery("t", "ACCEPTED", "ESTIMATE_PENDING", at(0)),
        Delivery("t", "SUBMITTED", "IN_PROGRESS", at(1000)),
        Delivery("t", "SUBMITTED", "IN_PROGRESS", at(1001)), Delivery("other", "X", None))
    lines = objects(ask("task", "--json", "t"))
    assert [(line["kind"], line["status"], line["previous_status"], line["meaning"])
            for line in lines] == [
        ("gap", "ESTIMATE_PENDING", None, "Operator accepted"),
        ("event", "ACCEPTED", "ESTIMATE_PENDING", "Estimate approved"),
        ("gap", "IN_PROGRESS", "ACCEPTED", "Work started"),
        ("event", "SUBMITTED", "IN_PROGRESS", "Proof submitted"),
        ("repeat", "SUBMITTED", "IN_PROGRESS", "Proof submitted")]
    assert lines[1]["trigger"] == "you approved the estimate"
    assert isinstance(lines[1]["id"], str) and lines[0]["id"] is None
    assert lines[0]["occurred_at"] is None and re.fullmatch(TIME, lines[1]["occurred_at"])

    # The text has one line for each step, and a "!" for each that is missing.
    assert ask("task", "t").out.splitlines() == [
        "! -------- missing -------               ESTIMATE_PENDING  Operator accepted;"
        " the next event follows on it",
        "  2026-03-01T12:00:00.000Z               ACCEPTED          Estimate approved",
        "! -------- missing -------               IN_PROGRESS       Work started;"
        " the next event follows on it",
        "  2026-03-01T12:16:40.000Z  +16min 40s   SUBMITTED         Proof submitted",
        "  2026-03-01T12:16:41.000Z  +1s          SUBMITTED         Proof submitted;"
        " delivered again"]

    # The gap closes by itself when the missing event arrives.
    put(database, Delivery("t", "IN_PROGRESS", "ACCEPTED", at(500)))
    assert [line[0] for line in ask("task", "t").out.splitlines()] == ["!", " ", " ", " ", " "]
    done = ask("task", "none")
    assert (done.returncode, done.out) == (NEGATIVE, "")
    assert "nothing is recorded of this task" in done.err


# ---- JSON


def check_form(key, value):
    """Ids are text, times are in one form, and an unknown value is null."""
    if isinstance(value, dict):
        return
    assert value != "", key
    if key.endswith("_at") or key in ("oldest", "last_seen", "last_event", "occurred_before",
                                      "received"):
        assert value is None or re.fullmatch(TIME, value), key
    if key == "id":
        assert value is None or isinstance(value, str)


def test_every_list_has_one_form_of_json(ask, database):
    [event] = put(database, Delivery("t", "SUBMITTED", "IN_PROGRESS"))
    put(database, Delivery("t", "DISPUTED", None, at(9)), Delivery("task_test_1", "A", ""))
    quarantine_add(database, b"[]")
    for name in ("s", "p"):
        database.execute(f"SELECT humcli.subscribe('{name}', 'beginning')")
    database.execute("INSERT INTO humcli.dead (subscription, event_id, attempts, error)"
                     f" VALUES ('p', {event}, 3, 'no luck')")
    with Spool() as spool:
        spool.make()
        spool.put(BODY % b"t")
        spool.put(b"x", text=b"damaged")
        for verb, count in ((["events"], 3), (["tasks"], 2), (["task", "t"], 3), (["gaps"], 1),
                            (["subscriptions"], 2), (["dead", "list"], 1),
                            (["quarantine", "list"], 1), (["spool", "list"], 2),
                            (["secret", "list"], 1)):
            rows = objects(ask(*verb, "--json", SPOOL=spool.path, SECRET="x"))
            assert len(rows) == count, (verb, rows)
            assert len({tuple(row) for row in rows}) == 1
            for row in rows:
                for key, value in row.items():
                    check_form(key, value)


# ---- wait


def test_wait_for_what_is_there(ask, database):
    put(database, Delivery("t", "ACCEPTED", "ESTIMATE_PENDING", at(1)),
        Delivery("t", "COMPLETED", "VERIFIED", at(2), payload='{"a":\n1}'))
    [event] = objects(ask("wait", "t"))
    assert (event["task_id"], event["status"], event["occurred_at"], event["payload"]) \
        == ("t", "COMPLETED", "2026-03-01T12:00:02.000Z", {"a": 1})
    [event] = objects(ask("wait", "t", "--for", "accepted, SUBMITTED", "--timeout", "0s"))
    assert event["status"] == "ACCEPTED"
    done = ask("wait", "t", "--for", "DISPUTED")
    assert (done.returncode, done.out) == (NEGATIVE, "")
    assert "the task has ended with COMPLETED" in done.err
    done = ask("wait", "never seen", "--timeout", "300ms")
    assert (done.returncode, done.out) == (LATER, "") and "in time" in done.err


def test_wait_for_what_comes(cli, database):
    """At once where a notification arrives; after a lost connection, too."""
    for lose in (False, True):
        task = f"t{lose}"
        running = Running(cli, "wait", task, DATABASE=database.dsn(), SPOOL="")
        try:
            listening = ("SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                         " AND application_name LIKE 'humcli%' AND state = 'idle'"
                         " AND query = 'COMMIT'")
            [(pid,)] = wait_until(lambda: database.execute(listening), "it to wait")
            if lose:
                database.execute(f"SELECT pg_terminate_backend({pid})")
            put(database, Delivery(task, "SUBMITTED", "IN_PROGRESS"),
                Delivery(task, "CANCELLED", "SUBMITTED", at(1)))
            database.execute("NOTIFY humcli_events, '{}'")
            assert running.end() == OK, running.err
            assert json.loads(running.out[0])["status"] == "CANCELLED"
        finally:
            running.close()


def socket_of(database):
    """Returns the path of the server's unix socket."""
    return f"{database.cluster.folder}/.s.PGSQL.{database.cluster.port}"


def test_wait_for_what_comes_with_the_end(cli, database):
    """The status and the end of the task are recorded while wait reads."""
    with PostgresProxy(socket_of(database)) as proxy:
        proxy.hold_statement(b"humcli.tasks t")
        running = Running(cli, "wait", "t", "--for", "VERIFIED", SPOOL="",
                          DATABASE=proxy.conninfo(f"dbname={database.name} user=postgres"))
        try:
            assert proxy.held.wait(10)
            put(database, Delivery("t", "VERIFIED", "SUBMITTED"),
                Delivery("t", "COMPLETED", "VERIFIED", at(1)))
            proxy.open()
            assert running.end() == OK, running.err
            assert json.loads(running.out[0])["status"] == "VERIFIED"
        finally:
            running.close()


def test_wait_ends_in_time(ask, database):
    """Also where the database does not answer: a lock, or a silent server."""
    with contextlib.closing(database.connect()) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE humcli.events IN ACCESS EXCLUSIVE MODE")
        done = ask("wait", "t", "--timeout", "300ms")
        assert (done.returncode, done.out) == (LATER, "") and "in time" in done.err
        wait_until(lambda: not database.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"), "the server to end the statement")
    with PostgresProxy(socket_of(database)) as proxy:
        proxy.freeze()
        done = ask("wait", "t", "--timeout", "300ms",
                   DATABASE=proxy.conninfo(f"dbname={database.name} user=postgres"))
        assert (done.returncode, done.out) == (LATER, "") and "in time" in done.err


def test_wait_for_a_purged_task(ask, database):
    put(database, Delivery("t", "VERIFIED", "SUBMITTED"), Delivery("t", "COMPLETED", "VERIFIED", at(1)))
    database.execute("UPDATE humcli.events SET recorded_at = occurred_at")
    database.execute("SELECT humcli.purge('1 day')")
    [event] = objects(ask("wait", "t", "--timeout", "300ms"))
    assert (event["status"], event["payload"]) == ("COMPLETED", None)
    done = ask("wait", "t", "--for", "DISPUTED", "--timeout", "300ms")
    assert done.returncode == NEGATIVE and "has ended with COMPLETED" in done.err


# ---- subscriptions and replay


def test_unsubscribe(ask, database):
    database.execute("SELECT humcli.subscribe('s')")
    done = ask("unsubscribe", "s")
    assert (done.returncode, done.out) == (OK, "removed\n"), done.err
    assert objects(ask("subscriptions", "--json")) == []
    done = ask("unsubscribe", "s")
    assert (done.returncode, done.out) == (DATA, "") and "does not exist" in done.err
    assert ask("unsubscribe").returncode == USAGE


def test_subscriptions(ask, database):
    assert ask("subscriptions").out == ""
    database.execute("SELECT humcli.subscribe('all')")
    database.execute("SELECT humcli.subscribe('some', statuses => '{B,C}')")
    put(database, Delivery("t1", "A"), Delivery("t2", "B"))
    some = objects(ask("subscriptions", "--json"))
    assert [(s["name"], s["kind"], s["owner"], s["statuses"], s["pending"], s["dead"],
             s["needs_rebase"]) for s in some] \
        == [("all", "subscription", "postgres", None, 2, 0, False),
            ("some", "subscription", "postgres", ["B", "C"], 1, 0, False)]
    assert [(row["NAME"], row["STATUSES"], row["PENDING"], row["NEEDS REBASE"])
            for row in table(ask("subscriptions"))] == [("all", "-", "2", "no"), ("some", "B,C", "1", "no")]
    database.execute("SELECT humcli.subscribe('mine', secrets => '{a,b}')")
    assert [s["secrets"] for s in objects(ask("subscriptions", "--json"))] == [None, ["a", "b"], None]
    assert [row["SECRETS"] for row in table(ask("subscriptions"))] == ["-", "a,b", "-"]


def test_replay(ask, cli, database):
    def handed_out():
        done = cli("listen", "--subscription", "s", "--from", "beginning", "--once",
                   DATABASE=database.dsn())
        return [row["id"] for row in objects(done)]

    ids = put(database, Delivery("t1", "A"), Delivery("t2", "B"), Delivery("t3", "B"))
    assert handed_out() == ids
    for options, expected in ((["--id", f"{ids[2]},{ids[0]}"], [ids[0], ids[2]]),
                              (["--task", "t2"], [ids[1]]), (["--status", "B,C"], ids[1:]),
                              (["--since", "2026-01-01"], ids), (["--until", "2026-01-01"], []),
                              (["--status", "B", "--task", "t3"], [ids[2]])):
        done = ask("replay", "--subscription", "s", *options)
        assert (done.returncode, done.out) \
            == (OK, f"{len(expected)} to be delivered again\n"), done.err
        assert handed_out() == expected, options
    done = ask("replay", "--subscription", "none", "--id", "1")
    assert (done.returncode, done.out) == (DATA, "")
    assert 'subscription "none" does not exist' in done.err
    assert ask("replay", "--subscription", "s", "--id", "one").returncode == DATA


# ---- purge


def old_tasks(database, count):
    """Records that many tasks that ended long ago, and one of today."""
    put(database, *[Delivery(f"t{n}", "A", occurred_at=at(-1000000)) for n in range(count)])
    database.execute("UPDATE humcli.events SET recorded_at = recorded_at - interval '10 days'")
    return put(database, Delivery("new", "A", occurred_at=at(0)))


def test_purge(ask, database):
    [new] = old_tasks(database, 2500)
    done = ask("purge", "--older-than", "2 days")
    assert (done.returncode, done.out) == (OK, "2500 tasks purged\n"), done.err
    assert database.execute("SELECT id::text FROM humcli.events") == [(new,)]
    assert [row["kind"] for row in objects(ask("task", "--json", "t7"))] == ["purged"]
    assert "the last of what purge deleted" in ask("task", "t7").out
    assert ask("purge", "--older-than", "2 days").out == "0 tasks purged\n"
    done = ask("purge", "--older-than", "2 hours")
    assert (done.returncode, done.out) == (DATA, "")
    assert "must be at least 1 day" in done.err


def test_purge_names_the_subscriptions_in_its_way(ask, database):
    old_tasks(database, 3)
    database.execute("SELECT humcli.subscribe('trial', 'beginning')")
    done = ask("purge", "--older-than", "2 days")
    assert (done.returncode, done.out) == (OK, "0 tasks purged\n")
    assert "subscription trial has not read events of that age" in done.err
    assert "humcli-webhook unsubscribe trial" in done.err
    assert ask("unsubscribe", "trial").returncode == OK
    done = ask("purge", "--older-than", "2 days")
    assert (done.out, done.err) == ("3 tasks purged\n", "")


@pytest.mark.parametrize("folder", ["new", "failed"])
def test_purge_waits_for_the_spool(ask, database, tmp_path, folder):
    spool = tmp_path / "spool"
    old_tasks(database, 1)
    for name in ("", "tmp", "new", "failed"):
        (spool / name).mkdir(mode=0o700)
    (spool / folder / ("0" * 64)).write_bytes(b"x")
    done = ask("purge", "--older-than", "2 days", SPOOL=spool)
    assert (done.returncode, done.out) == (LATER, ""), done.err
    assert f"nothing was purged: 1 event is still in spool {spool}; run" in done.err
    assert len(database.execute("SELECT 1 FROM humcli.events")) == 2
    (spool / folder / ("0" * 64)).unlink()
    assert ask("purge", "--older-than", "2 days", SPOOL=spool).out == "1 task purged\n"
    assert ask("purge", "--older-than", "2 days", SPOOL=tmp_path / "none").returncode == OK
    assert not (tmp_path / "none").exists()


# ---- dead


def test_dead_list(ask, database):
    assert ask("dead", "list").out == ""
    [event] = put(database, Delivery("t", "A"))
    for name in ("p", "q"):
        database.execute(f"SELECT humcli.subscribe('{name}')")
        database.execute("INSERT INTO humcli.dead (subscription, event_id, attempts, error)"
                         f" VALUES ('{name}', {event}, 3, 'no\nluck')")
    rows = table(ask("dead", "list"))
    assert [(row["POOL"], row["ID"], row["TASK ID"], row["ATTEMPTS"], row["ERROR"]) for row in rows] \
        == [("p", event, "t", "3", "no\\x0aluck"), ("q", event, "t", "3", "no\\x0aluck")]
    assert [row["pool"] for row in objects(ask("dead", "list", "--json", "--pool", "q"))] == ["q"]


# ---- quarantine


def quarantine_add(database, *bodies):
    """Puts bodies into the quarantine, received at 12:00; returns the ids."""
    connection = database.connect()
    with connection.cursor() as cursor:
        for n, body in enumerate(bodies):
            cursor.execute("SELECT humcli.quarantine_add(ARRAY[%s], ARRAY['why not'], ARRAY['default'],"
                           " ARRAY[%s], ARRAY[%s::bytea])", (at(n), f"{n:064x}", body))
        cursor.execute("SELECT id::text FROM humcli.quarantine ORDER BY id")
        ids = [row[0] for row in cursor.fetchall()]
    connection.close()
    return ids


def test_quarantine_list(ask, database):
    assert ask("quarantine", "list").out == ""
    first, second = quarantine_add(database, b"\xff\0{\n", b"[]")
    assert objects(ask("quarantine", "list", "--json"))[0] == {
        "id": first, "received_at": "2026-03-01T12:00:00.000Z", "secret_name": "default",
        "seen": 1, "bytes": 4, "reason": "why not", "signature": "0" * 64,
        "body": "\\377\\000{\n"}
    rows = table(ask("quarantine", "list"))
    assert [(row["ID"], row["REASON"], row["BYTES"]) for row in rows] \
        == [(first, "why not", "4"), (second, "why not", "2")]
    assert [row["ID"] for row in table(ask("quarantine", "list", second, "999"))] == [second]


def test_quarantine_retry(ask, database):
    ids = quarantine_add(database, BODY % b"t1", b"[]", BODY % b"t2", BODY % b"t3\\u0000",
                    (BODY % b"t4")[:-1] + b',"x":01}')
    done = ask("quarantine", "retry", ids[0], "999")
    assert (done.returncode, done.out) == (OK, "1 recorded, 0 left\n"), done.err
    done = ask("quarantine", "retry")
    assert (done.returncode, done.out) == (NEGATIVE, "1 recorded, 3 left\n"), done.err
    assert f"{ids[1]}: " in done.err and f"{ids[3]}: " in done.err
    assert [row[0] for row in database.execute("SELECT id::text FROM humcli.quarantine ORDER BY id")] \
        == [ids[1], ids[3], ids[4]]
    assert database.execute(
        "SELECT task_id, received_at, secret_name, signature, payload::text"
        " FROM humcli.events ORDER BY id") == [
            (task, at(2 * n), "default", f"{2 * n:064x}", (BODY % task.encode()).decode())
            for n, task in enumerate(("t1", "t2"))]
    # An event that was recorded in the meantime also leaves the quarantine.
    quarantine_add(database, BODY % b"t1")
    assert ask("quarantine", "retry").out == "1 recorded, 3 left\n"


def test_quarantine_retry_of_what_an_older_version_refused(ask, database):
    """It recorded none of these, though PostgreSQL's json accepts them all."""
    bodies = [(BODY % b"t%d" % n)[:-1] + more + b"}" for n, more in enumerate((
        b',"x":"\\ud800"', b',"x":1,"x":2', b',"\\u0000":1', b',"x":' + b"9" * 100,
        b',"x":' + b"[" * 1500 + b"]" * 1500))]
    bodies.append((BODY % b"t5").replace(b"T12:00:00.000Z", b" 12:00+00"))
    bodies.append((BODY % b"t6").replace(b"null", b'""'))
    assert BODY % b"t5" not in bodies and BODY % b"t6" not in bodies
    quarantine_add(database, *bodies)
    done = ask("quarantine", "retry")
    assert (done.returncode, done.out) == (OK, f"{len(bodies)} recorded, 0 left\n"), done.err
    assert [row[0].encode() for row in database.execute(
        "SELECT payload::text FROM humcli.events ORDER BY task_id")] == bodies
    assert database.execute("SELECT count(*) FROM humcli.quarantine") == [(0,)]
    # The verbs print it, though Python's parser does not go as deep.
    printed = ask("events", "--json")
    assert printed.returncode == OK and len(printed.out.splitlines()) == len(bodies)


def test_quarantine_retry_waits_for_a_lock(ask, database, paths):
    """A retry waits for a lock like a new event: 0.5 s, and once more."""
    quarantine_add(database, BODY % b"t1")
    with contextlib.closing(database.connect()) as other:
        other.autocommit = False
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext('t1'))",
                           [lock_class(paths.source / "sql")])
        release = threading.Timer(0.8, other.rollback)
        release.start()
        done = ask("quarantine", "retry")
        release.join()
    assert (done.returncode, done.out) == (OK, "1 recorded, 0 left\n"), done.err


def test_the_roles_that_the_pages_name(cli, database):
    """Most tests run as a superuser and without a spool. A reader of the pages has a
    role that was granted one of these, and the usual spool."""
    put(database, Delivery("t1", "SUBMITTED", occurred_at=at(0)))
    reads = [["events"], ["task", "t1"], ["tasks"], ["gaps"], ["subscriptions"], ["dead", "list"],
             ["quarantine", "list"], ["metrics"], ["report"]]
    for role, verbs in (
            ("reader", reads),
            ("consumer", [*reads, ["listen", "--subscription", "s", "--once"],
                          ["replay", "--subscription", "s", "--id", "1"], ["unsubscribe", "s"]]),
            ("admin", [*reads, ["quarantine", "retry"], ["purge", "--older-than", "2 days"],
                       ["purge", "--tests"]])):
        database.execute(f"CREATE ROLE of_the_pages LOGIN IN ROLE humcli_{role}")
        try:
            for verb in verbs:
                done = cli(*verb, DATABASE=database.dsn("of_the_pages"))
                assert done.returncode == OK, (role, verb, done.err)
        finally:
            database.execute("DROP OWNED BY of_the_pages")
            database.execute("DROP ROLE of_the_pages")


def test_quarantine_retry_needs_rights(ask, database):
    quarantine_add(database, BODY % b"t1")
    database.execute("CREATE ROLE only_reads LOGIN IN ROLE humcli_reader")
    try:
        assert len(table(ask("quarantine", "list", DATABASE=database.dsn("only_reads")))) == 1
        done = ask("quarantine", "retry", DATABASE=database.dsn("only_reads"))
        assert (done.returncode, done.out) == (NEGATIVE, "0 recorded, 1 left\n")
        assert "permission denied" in done.err
        assert len(database.execute("SELECT 1 FROM humcli.quarantine")) == 1
    finally:
        database.execute("DROP ROLE only_reads")
