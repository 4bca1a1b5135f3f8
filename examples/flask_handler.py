"""A handler of HumCLI's webhooks in Flask, in the form of the sample in HumCLI's
documentation: it checks X-Signature over the raw body, then reads task_id and
status. If you forward the recorded events to it, the handler need not be reachable
from the internet, and may be down for a while:

    humcli-webhook listen --pool forward --exec '...'

The whole command is in doc/consumers.md, "Forward the events to a handler". The
handler may get an event twice, and events of one task out of order.

Debian: apt-get install python3-flask
"""

import hashlib
import hmac
import os

from flask import Flask, request

app = Flask(__name__)
SECRET = os.environ["WEBHOOK_SECRET"]   # the task's callback_secret


def process_task_update(task_id, status):
    """Your work. After an exception Flask answers 500, and the event comes again."""
    print(task_id, status, flush=True)


@app.post("/webhooks/humcli")
def handle_webhook():
    body = request.get_data()
    expected = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, request.headers.get("X-Signature", "")):
        return {"error": "Invalid signature"}, 401
    event = request.get_json()
    process_task_update(event["task_id"], event["status"])
    return {"received": True}


if __name__ == "__main__":
    app.run("127.0.0.1", int(os.environ.get("PORT", "5000")))
