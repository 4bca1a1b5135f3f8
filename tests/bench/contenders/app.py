"""HumCLI's Flask sample. process_task_update() uses psycopg2 with a pool of
connections, as its documentation says."""

import hashlib
import hmac
import os

from flask import Flask, jsonify, request
from psycopg2.pool import ThreadedConnectionPool

app = Flask(__name__)
WEBHOOK_SECRET = os.environ["WEBHOOK_SECRET"]
pool = ThreadedConnectionPool(1, int(os.environ["THREADS"]), os.environ["DATABASE"])


def process_task_update(payload, body):
    connection = pool.getconn()
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO webhook_events (task_id, status, payload)"
                           " VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                           (payload["task_id"], payload["status"], body.decode()))
            if cursor.rowcount:
                cursor.execute("SELECT pg_notify('webhook_events', %s)", (payload["task_id"],))
    finally:
        pool.putconn(connection)


@app.route("/webhook", methods=["POST"])
def webhook():
    body = request.get_data()
    expected = hmac.new(WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, request.headers.get("X-Signature", "")):
        return jsonify({"error": "Invalid signature"}), 401
    process_task_update(request.get_json(), body)
    return jsonify({"received": True}), 200
