"""HumCLI's Flask sample. process_task_update() uses psycopg2 with a connection
for each thread, and a statement that is prepared once per connection."""

import hashlib
import hmac
import os
import threading

import psycopg2
from flask import Flask, jsonify, request

app = Flask(__name__)
WEBHOOK_SECRET = os.environ["WEBHOOK_SECRET"]
local = threading.local()

PREPARE = """
    PREPARE record (text, text, json) AS
    WITH inserted AS (
        INSERT INTO webhook_events (task_id, status, payload)
        VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
        RETURNING task_id
    )
    SELECT pg_notify('webhook_events', task_id) FROM inserted"""


def cursor():
    if not hasattr(local, "cursor"):
        connection = psycopg2.connect(os.environ["DATABASE"])
        connection.autocommit = True
        local.cursor = connection.cursor()
        local.cursor.execute(PREPARE)
    return local.cursor


def process_task_update(payload, body):
    cursor().execute("EXECUTE record (%s, %s, %s)",
                     (payload["task_id"], payload["status"], body.decode()))


@app.route("/webhook", methods=["POST"])
def webhook():
    body = request.get_data()
    expected = hmac.new(WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, request.headers.get("X-Signature", "")):
        return jsonify({"error": "Invalid signature"}), 401
    process_task_update(request.get_json(), body)
    return jsonify({"received": True}), 200
