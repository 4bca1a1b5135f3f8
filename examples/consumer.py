#!/usr/bin/env python3
"""Every event, also those that came while this did not run.

apt-get install python3-psycopg2;  PGDATABASE=humcli examples/consumer.py
"""
import select
import time

import psycopg2

NAME = "python"     # the subscription


def process_task_update(payload):
    """Your work. Once per event; after a crash in it, perhaps again."""
    print(payload["task_id"], payload["status"], flush=True)


def drain(connection):
    """Hands out what is there, until nothing is."""
    rows = True
    while rows:
        with connection, connection.cursor() as cursor:     # a transaction
            # (jsonb can't hold \u0000: then the columns have to do.)
            cursor.execute("""SELECT position, coalesce(humcli.payload(payload),
                              jsonb_build_object('task_id', task_id, 'status', status))
                              FROM humcli.fetch(%s)""", [NAME])
            rows = cursor.fetchall()
            for _, payload in rows:
                process_task_update(payload)
            if rows:
                cursor.execute("SELECT humcli.ack(%s, %s)", [NAME, rows[-1][0]])


def listen():
    """LISTENs first and looks then, so that nothing falls in between."""
    connection = psycopg2.connect("")
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT humcli.subscribe(%s)", [NAME])
        cursor.execute("LISTEN humcli_events")
    while True:
        drain(connection)
        if not connection.notifies:
            select.select([connection], [], [], 30)     # woken, or to be sure
        connection.poll()
        connection.notifies.clear()


while True:
    try:
        listen()
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:   # it is lost
        print(error, flush=True)
        time.sleep(1)
