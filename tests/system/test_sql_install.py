"""sql/install.sql and sql/humcli.sql in different databases, by different
users, and several times."""

import os
import threading
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import errors, extensions

from harness.postgres import Cluster, Database, wait_until
from harness.record_calls import SIGNATURE, START, Delivery, at, outcomes, record

ROLES = ("humcli_admin", "humcli_consumer", "humcli_owner", "humcli_reader", "humcli_reconciler",
         "humcli_writer")


@pytest.fixture(name="bare")
def fixture_bare(cluster):
    """A database without the schema."""
    name = cluster.create_database()
    yield Database(cluster, name)
    cluster.drop_database(name)


@pytest.fixture(name="rolefree", scope="module")
def fixture_rolefree():
    server = Cluster()
    yield server
    server.remove()


@pytest.fixture(name="another")
def fixture_another(rolefree):
    """A cluster without the roles, with plain users."""
    rolefree.execute("CREATE ROLE plain LOGIN; CREATE ROLE maker LOGIN CREATEROLE;"
                     "CREATE ROLE second LOGIN CREATEROLE")
    yield rolefree
    for name, in rolefree.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test%'"):
        rolefree.drop_database(name)
    for name, in rolefree.execute("SELECT rolname FROM pg_roles WHERE oid >= 16384"
                                   " ORDER BY rolname NOT LIKE 'humcli%'"):
        rolefree.execute(f"DROP ROLE {name}")


def by_psql(database, paths, user="postgres"):
    """Installs by psql, as the documentation says; returns psql's output."""
    return database.psql("-v", "ON_ERROR_STOP=1", "-f", str(paths.install_sql), user=user)


def by_string(database, paths, user="postgres"):
    """Installs by one query string; returns the notices."""
    connection = database.connect(user)
    try:
        with connection.cursor() as cursor:
            cursor.execute(paths.humcli_sql)
        return "".join(connection.notices)
    finally:
        connection.close()


def by_string_in_a_transaction(database, paths):
    """Installs by a client that begins transactions by itself. Its COMMIT finds
    no transaction."""
    connection = psycopg2.connect(database.dsn())
    try:
        with connection.cursor() as cursor:
            cursor.execute(paths.humcli_sql)
        assert connection.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE
        connection.commit()
    finally:
        connection.close()


def fingerprint(database):
    """Returns all objects of the schema with their owners and rights."""
    return database.execute("""
        SELECT 'schema', n.nspname::text, n.nspowner::regrole::text, n.nspacl::text
        FROM pg_namespace n WHERE n.nspname = 'humcli'
        UNION ALL
        SELECT c.relkind::text, c.relname, c.relowner::regrole::text,
            concat(c.relacl, c.reloptions, (SELECT array_agg(a.attname || ' ' || a.atttypid::regtype || a.attcollation)
                FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0),
                CASE WHEN c.relkind = 'i' THEN pg_get_indexdef(c.oid) WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END)
        FROM pg_class c WHERE c.relnamespace = 'humcli'::regnamespace
        UNION ALL
        SELECT 'function', p.proname, p.proowner::regrole::text, concat(p.proacl, pg_get_functiondef(p.oid))
        FROM pg_proc p WHERE p.pronamespace = 'humcli'::regnamespace
        UNION ALL
        SELECT 'status', s.status, s.event, concat(s.trigger, s.terminal) FROM humcli.statuses s
        UNION ALL
        SELECT 'version', v.version::text, NULL, NULL FROM humcli.schema_version v
        ORDER BY 1, 2, 4""")


def works(database, user="postgres"):
    """Checks that events are recorded."""
    connection = database.connect(user)
    try:
        rows = record(connection, [Delivery("task_1", "A"), Delivery("task_2", "A")], notify=True)
        assert outcomes(rows) in (["recorded"] * 2, ["duplicate"] * 2)
    finally:
        connection.close()


@pytest.mark.parametrize("ways", ((by_psql, by_psql), (by_string, by_string),
                                  (by_psql, by_string), (by_string, by_psql),
                                  (by_string_in_a_transaction, by_string_in_a_transaction)))
def test_twice(bare, template, cluster, paths, ways):
    """Each way gives the same schema. A second installation changes and loses
    nothing."""
    ways[0](bare, paths)
    works(bare)
    before = fingerprint(bare)
    assert before == fingerprint(Database(cluster, template))
    rows = bare.execute("SELECT * FROM humcli.events ORDER BY id")
    assert len(rows) == 2
    ways[1](bare, paths)
    works(bare)
    assert fingerprint(bare) == before
    assert bare.execute("SELECT * FROM humcli.events ORDER BY id") == rows


def test_version(database):
    assert database.execute("SELECT version FROM humcli.schema_version") == [(1,)]


def test_quiet(bare, paths):
    """An installation with the roles prints nothing."""
    for _ in range(2):
        said = by_psql(bare, paths)
        assert "NOTICE" not in said and "WARNING" not in said
        assert by_string(bare, paths) == ""


def test_at_once(bare, paths):
    """Of two installations at once, one waits for the other."""
    failures = []

    def install():
        try:
            by_string(bare, paths)
        except psycopg2.Error as failure:
            failures.append(failure)

    threads = [threading.Thread(target=install) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    works(bare)


def test_at_once_in_two_databases(another, paths):
    """Roles belong to the cluster: the second installation uses the existing
    ones."""
    databases = [Database(another, another.create_database()) for _ in range(4)]
    failures = []

    def install(database):
        try:
            by_string(database, paths)
        except psycopg2.Error as failure:
            failures.append(failure)

    threads = [threading.Thread(target=install, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for database in databases:
        works(database)
        assert fingerprint(database) == fingerprint(databases[0])


def test_under_load(database, paths):
    """An upgrade while others write and read: no call fails, no event is
    lost."""
    done = threading.Event()
    failures = []
    counts = [0] * 4

    def work(number):
        connection = database.connect()
        try:
            while not done.is_set():
                if number == 0:
                    with connection.cursor() as cursor:
                        cursor.execute("SELECT count(*) FROM humcli.tasks")
                else:
                    count = counts[number]
                    rows = record(connection, [Delivery(f"task_{number}_{count}", "A"),
                                               Delivery(f"task_{number}_{count}", "B", "A"),
                                               Delivery(f"task_{number}", str(count % 3), None, at(count))])
                    assert outcomes(rows) == ["recorded"] * 3
                counts[number] += 1
        except Exception as failure:    # pylint: disable=broad-except
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            before = list(counts)
            by_string(database, paths)
            wait_until(lambda: failures or all(a > b for a, b in zip(counts, before)), "each to go on")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert database.execute("SELECT count(*) FROM humcli.events") == [(3 * sum(counts[1:]),)]


def test_newer_schema(bare, paths):
    by_psql(bare, paths)
    bare.execute("INSERT INTO humcli.schema_version (version) VALUES (2)")
    with pytest.raises(errors.ObjectNotInPrerequisiteState):
        by_string(bare, paths)


def test_odd_settings(another, paths):
    """The user's settings and objects in public do not change the schema."""
    name = another.create_database()
    database = Database(another, name)
    database.execute("CREATE SCHEMA evil; CREATE TABLE evil.events ();"
                     "CREATE FUNCTION evil.getdatabaseencoding() RETURNS name LANGUAGE sql AS $$ SELECT 'no'::name $$")
    another.execute(f"""
        ALTER DATABASE {name} SET default_transaction_isolation = 'serializable';
        ALTER DATABASE {name} SET search_path = evil, pg_catalog;
        ALTER DATABASE {name} SET standard_conforming_strings = off;
        ALTER DATABASE {name} SET client_min_messages = error;
        ALTER DATABASE {name} SET client_encoding = 'LATIN1';
        ALTER DATABASE {name} SET DateStyle = 'SQL, DMY'""")
    by_psql(database, paths)
    by_string(database, paths)
    clean = Database(another, another.create_database())
    by_psql(clean, paths)
    ours, theirs = fingerprint(database), fingerprint(clean)
    assert [row[:3] for row in ours] == [row[:3] for row in theirs]


# Encodings.


def test_utf8(bare, paths):
    assert "WARNING" not in by_psql(bare, paths)


def test_sql_ascii(cluster, paths):
    name = cluster.create_database(encoding="SQL_ASCII")
    database = Database(cluster, name)
    assert "SQL_ASCII; UTF8 is better" in by_psql(database, paths)
    connection = database.connect()
    connection.set_client_encoding("UTF8")
    delivery = Delivery("t\u00e4sk", "\U0001f600", None, START, payload='{"\u00e9":1}')
    assert outcomes(record(connection, [delivery, delivery])) == ["recorded", "duplicate"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT octet_length(status), payload::text FROM humcli.events")
        assert cursor.fetchall() == [(4, delivery.payload)]
    connection.close()
    cluster.drop_database(name)


@pytest.mark.parametrize("way", (by_psql, by_string))
def test_latin1(cluster, paths, way):
    """The installation fails with a clear message and leaves nothing."""
    name = cluster.create_database(encoding="LATIN1")
    database = Database(cluster, name)
    with pytest.raises((RuntimeError, psycopg2.Error), match="is LATIN1, but UTF8 is needed"):
        way(database, paths)
    assert database.execute("SELECT to_regnamespace('humcli')") == [(None,)]
    cluster.drop_database(name)


def test_client_encoding(bare, paths, monkeypatch):
    """The files are ASCII, so that any client encoding gives the same
    schema."""
    paths.humcli_sql.encode("ascii")
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    by_psql(bare, paths)


# humcli.sql, the file for clients other than psql.


def test_humcli_sql(paths):
    text = paths.humcli_sql
    assert not [line for line in text.splitlines() if line.startswith("\\")]
    for part in (paths.source / "sql").rglob("*.sql"):
        if part.name not in ("install.sql", "humcli.sql", "pool.sql", "humcli-pool.sql") and part.parent.name != "pool":
            assert part.read_text(encoding="ascii") in text, f"{part} is not in install.sql"


# Upgrades from the SQL of each release, which tests/frozen-sql keeps.


RELEASES = sorted(path.name[len("humcli-"):-len(".sql")]
                  for path in (Path(__file__).parents[1] / "data").glob("humcli-*.sql")
                  if not path.name.endswith("-pool.sql"))


def install_release(database, paths, release, pool=False):
    """Installs the SQL of a release."""
    for part in ("", "-pool") if pool else ("",):
        database.psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(paths.source / f"tests/data/humcli-{release}{part}.sql"))


def same_as_new(database, paths, pool=False):
    """Checks that an upgraded schema is the same as a new one."""
    new = Database(database.cluster, database.cluster.create_database())
    by_string(new, paths)
    if pool:
        new.psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(paths.source / "sql/pool.sql"))
    assert [row for row in fingerprint(database) if row[0] != "version"] == [
        row for row in fingerprint(new) if row[0] != "version"]
    database.cluster.drop_database(new.name)


def functions_of_writers(database):
    """Returns the functions that a responder may call, with what they return."""
    return set(database.execute("""
        SELECT p.proname::text, pg_get_function_identity_arguments(p.oid), pg_get_function_result(p.oid)
        FROM pg_proc p WHERE p.pronamespace = 'humcli'::regnamespace
        AND has_function_privilege('humcli_writer', p.oid, 'EXECUTE')"""))


def test_releases():
    assert "0.1.0" in RELEASES


@pytest.mark.parametrize("release", RELEASES)
def test_upgrade_under_load(bare, paths, release):
    """An upgrade under load keeps and delivers the old events, and keeps each
    function that the responder of the release calls."""
    install_release(bare, paths, release)
    called = functions_of_writers(bare)
    assert {"record_batch", "record_next", "notify", "quarantine_add"} <= {row[0] for row in called}
    connection = bare.connect()
    record(connection, [Delivery("task_1", "A", None, at(i)) for i in range(3)] + [Delivery("task_2", "A")])
    done = threading.Event()
    failures = []

    def write(number):
        writer = bare.connect()
        try:
            count = 0
            while not done.is_set():
                count += 1
                assert outcomes(record(writer, [Delivery(f"w_{number}_{count}", "A"), Delivery(f"w_{number}", "A", None,
                                                         at(count * 1000))])) == ["recorded"] * 2
        except Exception as failure:    # pylint: disable=broad-except
            failures.append(failure)
        finally:
            writer.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        by_psql(bare, paths)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert called <= functions_of_writers(bare)
    with connection.cursor() as cursor:
        cursor.execute("SELECT humcli.subscribe('s', 'beginning'); SELECT id FROM humcli.fetch('s', 1000000)")
        got = sorted(row[0] for row in cursor.fetchall())
        cursor.execute("SELECT id FROM humcli.events ORDER BY id")
        assert got == [row[0] for row in cursor.fetchall()]
    connection.close()
    same_as_new(bare, paths)


@pytest.mark.parametrize("release", RELEASES)
def test_upgrade_keeps_subscriptions(bare, paths, release):
    """An upgrade keeps subscriptions, cursors and pools, with a window open and
    a claim held."""
    install_release(bare, paths, release, pool=True)
    connection = bare.connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT humcli.subscribe('s'), humcli.subscribe('p', 'now', '{A}')")
    rows = record(connection, [Delivery(f"task_{i}", "AB"[i % 2]) for i in range(8)])
    with connection.cursor() as cursor:
        cursor.execute("SELECT position, id FROM humcli.fetch('s', 2)")
        position, first = cursor.fetchall()[1]
        assert first == rows[1].id
        cursor.execute("SELECT humcli.ack('s', %s)", [position])
        cursor.execute("SELECT id, claim_no FROM humcli.claim('p', 'w')")
        claimed = cursor.fetchone()
        for _ in range(2):
            by_psql(bare, paths)
            bare.psql("-v", "ON_ERROR_STOP=1", "-q", "-f", str(paths.source / "sql/pool.sql"))
        cursor.execute("SELECT id, secret_name, payload::text, signature FROM humcli.fetch('s')")
        assert cursor.fetchall() == [(row.id, "default", "{}", SIGNATURE) for row in rows[2:]]
        cursor.execute("SELECT humcli.complete('p', %s, %s)", claimed)
        assert cursor.fetchone() == (True,)
        cursor.execute("SELECT id, signature FROM humcli.claim('p', 'w', 10)")
        assert sorted(cursor.fetchall()) == sorted((row.id, SIGNATURE) for row in rows[::2] if row.id != claimed[0])
        cursor.execute("SELECT name, statuses, secrets FROM humcli.subscription_status")
        assert cursor.fetchall() == [("p", ["A"], None), ("s", None, None)]
        cursor.execute("SELECT humcli.subscribe('t', secrets => '{x}')")
    connection.close()
    same_as_new(bare, paths, pool=True)


@pytest.mark.skipif("HUMCLI_STAGE" not in os.environ, reason="needs HUMCLI_STAGE")
def test_installed(bare, paths):
    """`make install` installs the same file."""
    folder = paths.stage / "share/humcli-webhook/sql"
    assert (folder / "humcli.sql").read_text(encoding="ascii") == paths.humcli_sql
    bare.psql("-v", "ON_ERROR_STOP=1", "-f", str(folder / "install.sql"))
    works(bare)


# Users.


def roles(cluster):
    """Returns the roles of the schema that exist."""
    return tuple(name for name, in cluster.execute(
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'humcli%' ORDER BY 1"))


def owners(database):
    """Returns the owners of the schema's objects."""
    return {row[2] for row in fingerprint(database) if row[0] not in ("status", "version")}


@pytest.mark.parametrize("way", (by_psql, by_string))
def test_plain_owner(another, paths, way):
    """Without CREATEROLE, the installation says so. All functions work for the
    owner, and for no other user."""
    database = Database(another, another.create_database(owner="plain"))
    for _ in range(2):
        assert "roles and grants are skipped" in way(database, paths, "plain")
        works(database, "plain")
    assert roles(another) == ()
    assert owners(database) == {"plain"}
    with pytest.raises(errors.InsufficientPrivilege):
        works(database, "second")
    assert database.execute("SELECT count(*) FROM humcli.tasks", "plain") == [(2,)]


def test_plain_owner_beside_roles(another, paths):
    """Roles that were made for another database are not used."""
    by_psql(Database(another, another.create_database()), paths)
    database = Database(another, another.create_database(owner="plain"))
    for _ in range(2):
        assert "roles and grants are skipped" in by_psql(database, paths, "plain")
    works(database, "plain")
    assert owners(database) == {"plain"}


@pytest.mark.parametrize("way", (by_psql, by_string))
def test_createrole(another, paths, way):
    """A database's owner with CREATEROLE, who is no superuser, can install."""
    database = Database(another, another.create_database(owner="maker"))
    for _ in range(2):
        assert way(database, paths, "maker").count("NOTICE") == 0
    assert roles(another) == ROLES
    assert owners(database) == {"humcli_owner"}
    another.execute("CREATE ROLE web LOGIN IN ROLE humcli_writer; CREATE ROLE app LOGIN IN ROLE humcli_reader")
    works(database, "web")
    assert database.execute("SELECT count(*) FROM humcli.events", "app") == [(2,)]
    # another database by the same user, and one by the superuser
    for user in ("maker", "postgres"):
        database = Database(another, another.create_database(owner=user))
        assert way(database, paths, user).count("NOTICE") == 0
        works(database, "web")
        assert owners(database) == {"humcli_owner"}


def test_second_createrole(another, paths):
    """The roles exist and another user with CREATEROLE installs. From
    PostgreSQL 16 on, this user may not grant them."""
    by_psql(Database(another, another.create_database(owner="maker")), paths, "maker")
    database = Database(another, another.create_database(owner="second"))
    for _ in range(2):
        said = by_psql(database, paths, "second")
        assert ("roles and grants are skipped" in said) == (another.version >= 160000)
    works(database, "second" if another.version >= 160000 else "postgres")


@pytest.mark.parametrize("way", (by_psql, by_string))
def test_schema_of_another_role(another, paths, way):
    """It is not taken over, because its triggers would run with our rights."""
    database = Database(another, another.create_database(owner="plain"))
    database.execute("CREATE SCHEMA humcli; CREATE TABLE humcli.events (id int)", "plain")
    for user in ("postgres", "maker"):
        with pytest.raises((RuntimeError, psycopg2.Error),
                           match=f'belongs to role "plain", not to "{user}"'):
            way(database, paths, user)
    assert database.execute("SELECT relname, relowner::regrole::text FROM pg_class"
                            " WHERE relnamespace = 'humcli'::regnamespace") == [("events", "plain")]


def test_roles_later(another, paths):
    """A superuser adds the roles to an installation without them. Nothing is
    lost."""
    database = Database(another, another.create_database(owner="plain"))
    by_psql(database, paths, "plain")
    works(database, "plain")
    with pytest.raises(RuntimeError, match='belongs to role "plain", not to "postgres"'):
        by_psql(database, paths)
    works(database, "plain")
    # the hint helps
    database.execute("ALTER SCHEMA humcli OWNER TO CURRENT_USER")
    assert "role plain owned the installation" in by_psql(database, paths)
    # the previous owner goes on recording and reading
    works(database, "plain")
    assert database.execute("SELECT count(*) FROM humcli.tasks", "plain") == [(2,)]
    assert "NOTICE" not in by_psql(database, paths)
    assert owners(database) == {"humcli_owner"}
    clean = Database(another, another.create_database())
    by_psql(clean, paths)
    assert fingerprint(database) == fingerprint(clean)
    assert database.execute("SELECT count(*) FROM humcli.events") == [(2,)]
    # the previous owner learns why he can't install any more
    with pytest.raises(RuntimeError, match="belongs to another role than \"plain\""):
        by_psql(database, paths, "plain")
    another.execute("GRANT humcli_owner TO plain")
    assert "NOTICE" not in by_psql(database, paths, "plain")
    assert owners(database) == {"humcli_owner"}
