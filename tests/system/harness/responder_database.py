"""A database as the responder's tests use it: one for a module, each test
with tasks of its own, the responder logged in as a writer and no more."""

import contextlib
import re
import threading

from harness.postgres import Database, wait_until

WRITER = "test_writer"
LOCAL_WRITER = "test_local_writer"


def lock_class(sql):
    """The class of the tasks' advisory locks; sql: the folder of the SQL."""
    text = (sql / "functions/record/lock_tasks.sql").read_text()
    return int(re.search(r"class constant int := (\d+)", text)[1])


class ResponderDatabase(Database):
    def __init__(self, cluster, name, sql):
        """sql: the folder of the SQL, where the class of the locks stands."""
        super().__init__(cluster, name)
        self.connection = self.connect()
        for role in (WRITER, LOCAL_WRITER):
            if not self.query("SELECT 1 FROM pg_roles WHERE rolname = %s",
                              role):
                self.query(f"CREATE ROLE {role} LOGIN IN ROLE humcli_writer")
        self.query(f"ALTER ROLE {LOCAL_WRITER}"
                   " SET synchronous_commit = 'local'")
        self.lock_class = lock_class(sql)

    @property
    def conninfo(self):
        """For a responder."""
        return self.dsn(WRITER)

    @property
    def login(self):
        """The same without the server, for a PostgresProxy."""
        return f"dbname={self.name} user={WRITER}"

    @property
    def socket(self):
        return f"{self.cluster.folder}/.s.PGSQL.{self.cluster.port}"

    def query(self, sql, *values):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def notify_lock(self):
        """Holds the lock that a notifying commit takes in the whole cluster:
        by one that waits for a standby which never comes. Who connects as
        LOCAL_WRITER commits meanwhile."""
        def commit():
            with contextlib.closing(self.connect()) as connection, \
                    connection.cursor() as cursor:
                cursor.execute("SELECT pg_logical_emit_message(true, '', ''),"
                               " pg_notify('elsewhere', '')")

        def waits():
            return self.query("SELECT 1 FROM pg_stat_activity"
                              " WHERE wait_event = 'SyncRep'")

        # The server takes notice a moment after the reload: until then a
        # commit does not wait, and another one is tried.
        self.query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        holders = []

        def held():
            if not holders or not holders[-1].is_alive():
                holders.append(threading.Thread(target=commit))
                holders[-1].start()
            return waits()

        try:
            self.query("SELECT pg_reload_conf()")
            wait_until(held, "a commit that waits for its standby")
            yield
        finally:
            self.query("ALTER SYSTEM RESET synchronous_standby_names")
            self.query("SELECT pg_reload_conf()")
            for holder in holders:
                holder.join()

    def close(self):
        self.connection.close()
        self.cluster.drop_database(self.name)
