#!/usr/bin/env python3
"""Processes every event, also those that arrived while this program was stopped.

apt-get install python3-psycopg2;  PGDATABASE=humcli examples/consumer.py
"""
import select
import time

import psycopg2

NAME = "python"     # the subscription


def process_task_update(payload):
    """Your work. It is called once per event, and after a crash perhaps again."""
    print(payload["task_id"], payload["status"], flush=True)


def drain(connection):
    """Processes all unread events."""
    rows = True
    while rows:
        with connection, connection.cursor() as cursor:     # a transaction
            # jsonb can't hold \u0000; payload() is then NULL, and the columns are used.
            cursor.execute("""SELECT position, coalesce(humcli.payload(payload),
                              jsonb_build_object('task_id', task_id, 'status', status))
                              FROM humcli.fetch(%s)""", [NAME])
            rows = cursor.fetchall()
            for _, payload in rows:
                process_task_update(payload)
            if rows:
                cursor.execute("SELECT humcli.ack(%s, %s)", [NAME, rows[-1][0]])


def listen():
    """Runs LISTEN before the first drain, so that no event falls in between."""
    connection = psycopg2.connect("")
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT humcli.subscribe(%s)", [NAME])
        cursor.execute("LISTEN humcli_events")
    while True:
        drain(connection)
        connection.poll()       # COMMIT's answer may have brought a notification
        if not connection.notifies:
            select.select([connection], [], [], 30)     # notified, or to be sure
            connection.poll()
        connection.notifies.clear()


while True:
    try:
        listen()
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:   # the connection is lost
        print(error, flush=True)
        time.sleep(1)
