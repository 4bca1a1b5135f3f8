"""The database of the responder's tests. All tests of a module share one, and
each test uses its own tasks. The responder logs in as a writer without other
rights."""

import contextlib
import re
import threading

from harness.postgres import Database, wait_until

WRITER = "test_writer"
LOCAL_WRITER = "test_local_writer"


def lock_class(sql):
    """Returns the class of the tasks' advisory locks. sql: the folder sql/."""
    text = (sql / "functions/record/lock_tasks.sql").read_text()
    return int(re.search(r"class constant int := (\d+)", text)[1])


class ResponderDatabase(Database):
    def __init__(self, cluster, name, sql):
        """sql: the folder sql/, from which lock_class() reads."""
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
        """The conninfo for a responder."""
        return self.dsn(WRITER)

    @property
    def login(self):
        """The conninfo without the server; a PostgresProxy adds its own."""
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
        """Holds the lock that each notifying commit takes, one for the whole
        cluster. The holder is a commit that waits for a missing standby.
        LOCAL_WRITER can still commit."""
        def commit():
            with contextlib.closing(self.connect()) as connection, \
                    connection.cursor() as cursor:
                cursor.execute("SELECT pg_logical_emit_message(true, '', ''),"
                               " pg_notify('elsewhere', '')")

        def waits():
            return self.query("SELECT 1 FROM pg_stat_activity"
                              " WHERE wait_event = 'SyncRep'")

        # The server applies the reload a moment later. A commit before that
        # does not wait, so held() starts another one.
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
