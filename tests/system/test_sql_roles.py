"""The rights of each role, tried by logging in as each."""

import psycopg2
import pytest
from psycopg2 import errors

from harness.record_calls import Delivery, outcomes, record, record_next, stored

WHO = ("writer", "reader", "consumer", "admin", "reconciler", "stranger")
READERS = {"reader", "consumer", "admin", "reconciler"}
TABLES = ("events", "repeats", "quarantine", "statuses", "schema_version", "retired", "late",
          "subscriptions", "replays", "jobs", "dead", "readings", "reconcile_runs")
VIEWS = ("deliveries", "timeline", "tasks", "gaps", "subscription_status")
CONSUMERS = {"consumer", "admin"}
RECORD = ("SELECT humcli.record_batch(ARRAY['e'], ARRAY['t'], ARRAY['s'], ARRAY['p'], ARRAY[now()],"
          " ARRAY[now()], ARRAY['n'], ARRAY['f'], ARRAY['{}']::json[], '10 min', true)")
QUARANTINE_ADD = ("SELECT humcli.quarantine_add(ARRAY[now()], ARRAY['r'], ARRAY['n'], ARRAY['f'], ARRAY['x'::bytea])")

NEXT = "SELECT humcli.record_next('e', 't', 's', NULL, now(), now(), 'n', 'f', '{}')"

# a statement, and the users that may run it
MATRIX = [
    (RECORD, {"writer"}),
    (NEXT, {"writer"}),
    (QUARANTINE_ADD, {"writer"}),
    ("SELECT humcli.notify(ARRAY['{}'], NULL)", {"writer"}),
    ("SELECT humcli.notify(NULL, NULL)", {"writer"}),
    ("SELECT humcli.record_status_read('t', 's', NULL, NULL, now(), 'k', '{}')", {"reconciler"}),
    ("SELECT humcli.add_reading('t', now(), 200, '{}', 'k')", {"reconciler"}),
    ("SELECT humcli.add_reconcile_run(now(), 1, 1, 1, 0, NULL)", {"reconciler"}),
    ("SELECT humcli.is_status_read('t', 's', NULL, now())", READERS),
    ("SELECT humcli.payload('{}')", READERS),
    ("SELECT humcli.order_equal_times('t', now())", READERS),
    ("SELECT humcli.event_types('t')", READERS),
    ("SELECT humcli.time_before('t', '{}', now())", set()),
    ("SELECT humcli.lock_tasks(ARRAY['t'])", set()),
    ("SELECT humcli.repair_identity('events')", set()),
    ("SELECT humcli.identities_behind()", {"writer", *READERS}),
    ("SELECT humcli.notification_payload(1, 't', 's', NULL, true, 'n')", set()),
    ("SELECT humcli.history_neighbor('t', 'e', now(), 's', true, '10 min')", set()),
    ("SELECT humcli.eventless_half('t', 'e', now(), 's', true, '10 min')", set()),
    ("SELECT humcli.subscribe('mine')", CONSUMERS),
    *((f"SELECT humcli.subscribe('mine'); SELECT humcli.{call}", CONSUMERS)
      for call in ("fetch('mine')", "replay('mine', ids => ARRAY[1])", "seek('mine', 'now')", "unsubscribe('mine')")),
    ("SELECT humcli.ack('mine', 'x')", CONSUMERS),
    *((f"SELECT humcli.{call}", set())
      for call in ("require_subscription('s')", "calling_role()", "complete_snapshot()",
                   "cursor_has_passed(NULL, 0, 0)", "open_next_window(NULL)", "save_cursor(NULL)",
                   "update_cursor(NULL)", "opened_gaps(NULL)", "task_is_purgeable('t', now(), NULL)")),
    *((f"SELECT humcli.{call}", READERS)
      for call in ("has_foreign_xids('s')", "xid_to_bigint('3')", "cursor_horizon(NULL)",
                   "unread_events(NULL, NULL, 0, 0, NULL, NULL, 1)", "subscription_covers(NULL, 's', 'n')")),
    ("SELECT humcli.purge('1 day')", {"admin"}),
    ("SELECT humcli.purge_tests()", {"admin"}),
    ("SELECT humcli.rebase()", {"admin"}),
    *((f"SELECT * FROM humcli.{name}", READERS) for name in TABLES + VIEWS),
    *((f"DELETE FROM humcli.{name}", {"admin"} if name in ("quarantine", "late") else set()) for name in TABLES),
    *((f"TRUNCATE humcli.{name}", set()) for name in TABLES),
    ("UPDATE humcli.subscriptions SET owner = session_user", set()),
    ("UPDATE humcli.events SET status = 'x'", set()),
    ("INSERT INTO humcli.statuses VALUES ('X', 'x', 'x', false)", set()),
    ("INSERT INTO humcli.repeats (event) VALUES ('x')", set()),
    ("SELECT nextval('humcli.events_id_seq')", set()),
    ("CREATE TABLE humcli.mine ()", set()),
    ("CREATE FUNCTION humcli.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'", set()),
    ("DROP FUNCTION humcli.notify(text[], text[])", set()),
    ("ALTER TABLE humcli.events DISABLE TRIGGER ALL", set()),
    ("SET ROLE humcli_owner", set()),
    ("DROP SCHEMA humcli CASCADE", set()),
]


@pytest.fixture(name="users", scope="module")
def fixture_users(cluster, template):
    """Makes a user in each role and one in none. The template made the
    roles."""
    assert template
    for who in WHO:
        grant = "" if who == "stranger" else f"IN ROLE humcli_{who}"
        cluster.execute(f"CREATE ROLE sql_{who} LOGIN {grant}")
    yield {who: f"sql_{who}" for who in WHO}
    for who in WHO:
        cluster.execute(f"DROP ROLE sql_{who}")


@pytest.mark.parametrize("who", WHO)
def test_matrix(database, users, who):
    connection = psycopg2.connect(database.dsn(users[who]))
    wrong = []
    for statement, may in MATRIX:
        with connection.cursor() as cursor:
            try:
                cursor.execute(statement)
                refused = False
            except errors.InsufficientPrivilege:
                refused = True
            except errors.InvalidParameterValue:
                refused = False     # the statement ran
        connection.rollback()
        if refused == (who in may):
            wrong.append((statement, "refused" if refused else "allowed"))
    connection.close()
    assert not wrong


def test_every_function_is_in_the_matrix(database):
    names = [name for name, in database.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'humcli'::regnamespace")]
    assert names and all(any(f"humcli.{name}(" in statement for statement, _ in MATRIX) for name in names)
    tables = {name for name, in database.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'humcli'::regnamespace AND relkind IN ('r', 'v')")}
    assert tables == set(TABLES + VIEWS)


def test_roles(cluster, database):
    """No role can log in. All objects belong to the owner, who has no special
    rights."""
    assert database
    assert cluster.execute(
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'humcli%' AND (rolcanlogin OR rolsuper"
        " OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)") == []
    assert cluster.execute(
        "SELECT m.roleid::regrole::text, m.member::regrole::text FROM pg_auth_members m"
        " WHERE m.member::regrole::text LIKE 'humcli%' ORDER BY 1, 2") == [
            ("humcli_consumer", "humcli_admin"), ("humcli_reader", "humcli_consumer"),
            ("humcli_reader", "humcli_reconciler")]


def test_definer_functions(database):
    """Each security-definer function sets the search path, belongs to the owner
    and is not callable by PUBLIC."""
    rows = database.execute(
        "SELECT proname, proowner::regrole::text, proconfig, prosecdef,"
        " EXISTS (SELECT FROM aclexplode(proacl) WHERE grantee = 0)"
        " FROM pg_proc WHERE pronamespace = 'humcli'::regnamespace")
    assert {row[0] for row in rows if row[3]} == {
        "record_batch", "record_next", "record_status_read", "add_reading", "add_reconcile_run",
        "identities_behind", "notify", "quarantine_add", "subscribe", "fetch", "ack", "replay", "seek",
        "unsubscribe", "purge", "purge_tests", "rebase"}
    for name, owner, config, definer, public in rows:
        assert owner == "humcli_owner" and not public, name
        if definer:
            assert "search_path=pg_catalog, pg_temp" in config, name


def test_callers_objects(database, users):
    """The caller's objects and search path do not change the results."""
    database.execute("CREATE SCHEMA evil; GRANT ALL ON SCHEMA evil TO PUBLIC;"
                     "GRANT TEMPORARY ON DATABASE " + database.name + " TO PUBLIC")
    connection = database.connect(users["writer"])
    with connection.cursor() as cursor:
        cursor.execute("""
            CREATE TEMP TABLE events (id bigint, task_id text, status text);
            CREATE TEMP TABLE repeats (id bigint, task_id text, status text);
            CREATE TEMP TABLE deliveries (id bigint);
            CREATE TEMP TABLE unnest (id bigint)""")
        for schema in ("evil", "pg_temp"):
            cursor.execute(f"""
                CREATE FUNCTION {schema}.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS
                    $$ BEGIN RAISE EXCEPTION 'run as %', current_user; END $$;
                CREATE FUNCTION {schema}.hashtext(text) RETURNS int LANGUAGE plpgsql AS
                    $$ BEGIN RAISE EXCEPTION 'run as %', current_user; END $$;
                CREATE FUNCTION {schema}.cardinality(text[]) RETURNS int LANGUAGE plpgsql AS
                    $$ BEGIN RAISE EXCEPTION 'run as %', current_user; END $$;
                CREATE FUNCTION {schema}.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS
                    $$ BEGIN RAISE EXCEPTION 'run as %', current_user; END $$;
                CREATE OPERATOR {schema}.= (LEFTARG = text, RIGHTARG = text, FUNCTION = {schema}.trap)""")
        cursor.execute("SET search_path = pg_temp, evil, pg_catalog")
        with pytest.raises(errors.RaiseException, match="run as sql_writer"):
            cursor.execute("SELECT 'a'::text = 'b'::text, pg_temp.hashtext('x')")
    deliveries = [Delivery("task_1", "A"), Delivery("task_1", "B", "A"), Delivery("task_2", "A")]
    assert outcomes(record(connection, deliveries, notify=True)) == ["recorded"] * 3
    deliveries.append(Delivery("task_3", "A"))
    assert record_next(connection, deliveries[-1])
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_temp.events")
        assert cursor.fetchone() == (0,)
        cursor.execute(QUARANTINE_ADD)
    connection.close()
    superuser = database.connect()
    assert sorted(stored(superuser, "events"), key=str) == sorted(deliveries, key=str)
    superuser.close()


def test_subscription_of_another(database, users, cluster):
    """A subscription of a role is open to its members and to administrators.
    Other users are refused."""
    cluster.execute("CREATE ROLE sql_team; CREATE ROLE sql_other LOGIN IN ROLE humcli_consumer, sql_team;"
                    "CREATE ROLE sql_third LOGIN IN ROLE humcli_consumer; GRANT sql_team TO sql_consumer")
    calls = ("fetch('{}')", "ack('{}', '1:0:5:5')", "seek('{}', 'now')", "replay('{}', ids => ARRAY[1])",
             "subscribe('{}')", "unsubscribe('{}')")
    try:
        connection = database.connect(users["consumer"])
        with connection.cursor() as cursor:
            cursor.execute("SELECT humcli.subscribe('own')")
            cursor.execute("SET ROLE sql_team")     # has no right to call by itself
            with pytest.raises(errors.InsufficientPrivilege):
                cursor.execute("SELECT humcli.subscribe('team')")
            cluster.execute("GRANT humcli_consumer TO sql_team")
            cursor.execute("SELECT humcli.subscribe('team')")
            with pytest.raises(errors.InsufficientPrivilege, match='"own" belongs to role "sql_consumer"'):
                cursor.execute("SELECT humcli.fetch('own')")
        connection.close()

        def may(user, name):
            answers = set()
            connection = psycopg2.connect(database.dsn(user))
            for call in calls:
                with connection.cursor() as cursor:
                    try:
                        cursor.execute(f"SELECT humcli.{call.format(name)}")
                        answers.add(True)
                    except errors.SerializationFailure:
                        answers.add(True)   # a position that no fetch returned
                    except errors.InsufficientPrivilege:
                        answers.add(False)
                connection.rollback()
            connection.close()
            answer, = answers
            return answer

        for name, allowed in (("own", {"sql_consumer", "sql_admin", "postgres"}),
                              ("team", {"sql_consumer", "sql_admin", "sql_other", "postgres"})):
            for user in ("sql_consumer", "sql_other", "sql_third", "sql_admin", "sql_reader",
                         "sql_writer", "sql_stranger", "postgres"):
                assert may(user, name) == (user in allowed), (user, name)
    finally:
        cluster.execute("DROP ROLE sql_third; DROP ROLE sql_other; DROP ROLE sql_team")
    # its role was dropped: administrators can remove it
    admin = database.connect(users["admin"])
    with admin.cursor() as cursor:
        cursor.execute("SELECT humcli.unsubscribe('team')")
    admin.close()
