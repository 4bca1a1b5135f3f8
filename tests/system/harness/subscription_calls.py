"""Calls of the subscription functions, such as humcli.fetch() and ack()."""

import threading
from datetime import datetime
from typing import NamedTuple, Optional

import psycopg2


class Event(NamedTuple):
    """A row of humcli.fetch()."""

    position: str
    id: int
    event: str
    task_id: str
    status: str
    previous_status: Optional[str]
    occurred_at: datetime
    received_at: datetime
    recorded_at: datetime
    secret_name: str
    payload: object
    signature: str


def call(connection, function, *arguments, **named):
    """Runs SELECT * FROM humcli.function(...); returns the rows."""
    places = ["%s"] * len(arguments) + [f'"{name}" => %s' for name in named]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM humcli.{function}({', '.join(places)})",
                       [*arguments, *named.values()])
        return cursor.fetchall()


def value(connection, function, *arguments, **named):
    """Calls a function that returns one value; returns the value."""
    return call(connection, function, *arguments, **named)[0][0]


def fetch(connection, name, max_rows=100):
    """Calls humcli.fetch(); returns the rows as Events."""
    return [Event(*row) for row in call(connection, "fetch", name, max_rows)]


def ids(rows):
    """Returns the ids of the rows, in order."""
    return [row.id for row in rows]


def drain(connection, name, max_rows=100):
    """Fetches and acknowledges until no event is left; returns the events."""
    events = []
    while True:
        rows = fetch(connection, name, max_rows)
        if not rows:
            return events
        events += rows
        call(connection, "ack", name, rows[-1].position)


def fill(database, count, statuses=("A",), first=1):
    """Inserts that many events in one transaction, without humcli.record_batch()."""
    database.execute(
        "INSERT INTO humcli.events (event, task_id, status, previous_status, occurred_at, received_at,"
        " first_of_status, secret_name, signature, payload)"
        " SELECT 'task.status_changed', 'task_' || i, (ARRAY['" + "','".join(statuses) + "'])"
        f"[1 + i % {len(statuses)}], 'PENDING', now(), now(), true, 'default', '', '{{}}'"
        f" FROM generate_series({first}, {first + count - 1}) i")


class Threads:
    """Runs functions in threads. join() raises the first failure."""

    def __init__(self):
        self.threads = []
        self.failures = []

    def start(self, function, *arguments):
        """Starts a thread that calls the function."""
        def run():
            try:
                function(*arguments)
            except Exception as failure:    # pylint: disable=broad-except
                self.failures.append(failure)

        thread = threading.Thread(target=run)
        thread.start()
        self.threads.append(thread)

    def join(self, limit=600):
        """Waits until all threads have ended; raises the first failure."""
        for thread in self.threads:
            thread.join(limit)
            assert not thread.is_alive()
        self.threads = []
        if self.failures:
            raise self.failures[0]


def retried(connection, work):
    """Runs work(connection) in a transaction and commits. Returns the result;
    None after a serialization failure, with the transaction rolled back."""
    assert not connection.autocommit
    try:
        result = work(connection)
        connection.commit()
        return result
    except psycopg2.errors.SerializationFailure:
        connection.rollback()
        return None
