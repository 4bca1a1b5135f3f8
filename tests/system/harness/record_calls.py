"""Deliveries, and calls of humcli.record_batch() with them."""

import json
import select
import time
from datetime import datetime, timedelta, timezone
from typing import NamedTuple, Optional

EVENT = "task.status_changed"
START = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
WINDOW = timedelta(minutes=10)
SIGNATURE = "5f" * 32


def at(seconds):
    """Returns the time that many seconds after START."""
    return START + timedelta(seconds=seconds)


class Delivery(NamedTuple):
    """One signed delivery."""

    task_id: str
    status: str
    previous_status: Optional[str] = None
    occurred_at: datetime = START
    event: str = EVENT
    payload: str = "{}"
    secret_name: str = "default"

    @property
    def key(self):
        """The fields that identify a delivery."""
        return (self.task_id, self.event, self.occurred_at, self.status)


class Row(NamedTuple):
    """A row that humcli.record_batch() returns, without the notification."""

    place: int
    outcome: str
    id: Optional[int]
    task_id: Optional[str] = None
    status: Optional[str] = None
    previous_status: Optional[str] = None


def record_batch(connection, deliveries, window=WINDOW, notify=False):
    """Calls humcli.record_batch(); returns its rows as tuples."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT * FROM humcli.record_batch(%s::text[], %s::text[], %s::text[], %s::text[],"
            " %s::timestamptz[], %s::timestamptz[], %s::text[], %s::text[], %s::json[],"
            " %s::interval, %s)",
            ([d.event for d in deliveries], [d.task_id for d in deliveries],
             [d.status for d in deliveries], [d.previous_status for d in deliveries],
             [d.occurred_at for d in deliveries], [START] * len(deliveries),
             [d.secret_name for d in deliveries], [SIGNATURE] * len(deliveries),
             [d.payload for d in deliveries], window, notify))
        return cursor.fetchall()


def record(connection, deliveries, window=WINDOW, notify=False):
    """Calls humcli.record_batch(); returns its rows, without those of gaps."""
    return [Row(*row[:6]) for row in record_batch(connection, deliveries, window, notify) if row[1] != "gap"]


def put(database, *rows):
    """Records the deliveries; returns the ids as text."""
    connection = database.connect()
    try:
        return [str(row.id) for row in record(connection, rows) if row.outcome == "recorded"]
    finally:
        connection.close()


def record_next(connection, delivery):
    """Calls humcli.record_next(); returns the id, or None if it did nothing."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT humcli.record_next(%s, %s, %s, %s, %s, %s, %s, %s, %s)", (
            delivery.event, delivery.task_id, delivery.status, delivery.previous_status,
            delivery.occurred_at, START, delivery.secret_name, SIGNATURE, delivery.payload))
        return cursor.fetchone()[0]


def record_as_cgi(connection, delivery, window=WINDOW):
    """Records and notifies one delivery, as the responder does under plain
    CGI."""
    number = record_next(connection, delivery)
    if number is None:
        return record(connection, [delivery], window, notify=True)
    return [Row(1, "recorded", number)]


def record_all(connection, deliveries, window=WINDOW):
    """Records a batch and retries its busy events, as the responder does."""
    answer = {}
    left = list(enumerate(deliveries, 1))
    while left:
        for row in record(connection, [d for _, d in left], window):
            if row.outcome not in ("busy", "promoted"):
                answer[left[row.place - 1][0]] = row
        left = [(place, d) for place, d in left if place not in answer]
    return [answer[place] for place in sorted(answer)]


def outcomes(rows):
    """Returns the outcomes of the rows, in order."""
    return [row.outcome for row in rows]


def stored(connection, table):
    """Returns the deliveries in humcli.events or humcli.repeats, unordered."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT task_id, status, previous_status, occurred_at, event, payload::text,"
                       " secret_name"
                       f" FROM humcli.{table}")
        return [Delivery(*row) for row in cursor.fetchall()]


def listen(connection):
    """Runs LISTEN; from then on notifications() works on this connection."""
    with connection.cursor() as cursor:
        cursor.execute("LISTEN humcli_events")


def notifications(connection, count, limit=10.0):
    """Waits for that many notifications; returns their payloads in order."""
    until = time.monotonic() + limit
    while len(connection.notifies) < count:
        left = until - time.monotonic()
        assert left > 0, f"only {len(connection.notifies)} of {count} notifications came"
        select.select([connection], [], [], left)
        connection.poll()
    texts = [notify.payload for notify in connection.notifies]
    del connection.notifies[:]
    return texts


def notification(number, delivery, first):
    """Returns the payload of an event's notification, built without the SQL."""
    return json.dumps({"id": str(number), "task_id": delivery.task_id,
                       "status": delivery.status, "previous_status": delivery.previous_status,
                       "first": first, "secret": delivery.secret_name}, separators=(",", ":"), ensure_ascii=False)
