"""The recipe that forwards events to a handler, as doc/consumers.md has it."""

import hashlib
import hmac
import json
import re
import subprocess

import pytest

from harness.cli import Running
from harness.postgres import Database, wait_until
from harness.record_calls import EVENT, at
from harness.webserver import free_port

SECRET = "whsec_forward_Ünïcode_5f2c"
RECIPE = re.compile(r"^humcli-webhook listen (--pool forward .*?)--exec '(.*?)'$",
                    re.MULTILINE | re.DOTALL)
# The shipped handler, whose work fails as the tests want.
HANDLER = """
import sys
sys.path.insert(0, sys.argv[1])
import flask_handler
failures = {"t_later": 2, "t_never": 99}
def work(task_id, status):
    if failures.get(task_id, 0) > 0:
        failures[task_id] -= 1
        raise RuntimeError(task_id)
    print("did", task_id, status, flush=True)
flask_handler.process_task_update = work
flask_handler.app.run("127.0.0.1", int(sys.argv[2]))
"""


@pytest.fixture(name="database")
def fixture_database(cluster, pooled):
    name = cluster.create_database(template=pooled)
    yield Database(cluster, name)
    cluster.drop_database(name)


@pytest.fixture
def handler(paths, tmp_path):
    """The URL of a running handler, and the path of its log."""
    port, log = free_port(), tmp_path / "handler.log"
    with open(log, "wb") as out, subprocess.Popen(
            ["/usr/bin/python3", "-B", "-c", HANDLER, paths.source / "examples", str(port)],
            stdout=out, stderr=out, env={"WEBHOOK_SECRET": SECRET, "PATH": "/usr/bin:/bin",
                                         "LC_ALL": "C.UTF-8"}) as process:
        try:
            wait_until(lambda: b"Running on" in log.read_bytes() or process.poll() is not None,
                       "the handler to listen", limit=30)
            yield f"http://127.0.0.1:{port}/webhooks/humcli", log
        finally:
            process.terminate()


def put(database, task, body, secret=SECRET):
    """Records a body as it was signed by that secret."""
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT outcome FROM humcli.record_batch(ARRAY[%s], ARRAY[%s], ARRAY['SUBMITTED'],"
            " ARRAY[NULL]::text[], ARRAY[%s::timestamptz], ARRAY[now()], ARRAY['main'], ARRAY[%s],"
            " ARRAY[%s]::json[], '10 min', false)",
            (EVENT, task, at(0), hmac.new(secret.encode(), body.encode(), hashlib.sha256).hexdigest(),
             body))
        assert cursor.fetchall() == [("recorded",)]
    connection.close()


def body(task, **more):
    return json.dumps({"event": EVENT, "task_id": task, "status": "SUBMITTED", **more})


def test_forwarding(cli, database, handler, paths):
    url, log = handler
    [(options, command)] = RECIPE.findall((paths.source / "doc/consumers.md").read_text())
    command = command.replace("\\\n", " ").replace("http://127.0.0.1:5000/webhooks/humcli", url)
    assert url in command and "$HUMCLI_SIGNATURE" in command
    database.execute("SELECT humcli.subscribe('forward', 'beginning')")
    database.execute("SELECT humcli.pool('forward', false, 4, '10 ms', '20 ms')")
    # Spaces, order, escapes, line breaks and the end are part of what is signed.
    put(database, "t_odd", ' {\n\t"status" : "SUBMITTED","task_id":"t_odd", "x":"\\u00e9 \\ud83d\\ude00 é",'
        '"x":1.0e5,\r\n "event":"' + EVENT + '" }\n\n')
    put(database, "t_large", body("t_large", proof="p" * 60000))
    put(database, "t_later", body("t_later"))
    put(database, "t_never", body("t_never"))
    put(database, "t_forged", body("t_forged"), secret="another")
    worker = Running(cli, "listen", *options.split(), "--exec", command, DATABASE=database.dsn())
    try:
        wait_until(lambda: database.execute("SELECT count(*) FROM humcli.dead") == [(2,)]
                   and database.execute("SELECT count(*) FROM humcli.jobs") == [(0,)]
                   and database.execute("SELECT pending FROM humcli.subscription_status") == [(0,)],
                   "all events to be done or dead", limit=60)
    finally:
        worker.end(15)
        worker.close()
    did = re.findall(r"^did (\w+) SUBMITTED$", log.read_text(), re.MULTILINE)
    assert sorted(did) == ["t_large", "t_later", "t_odd"]
    dead = cli("dead", "list", "--pool", "forward", "--json", DATABASE=database.dsn())
    rows = {row["task_id"]: row for row in map(json.loads, dead.out.splitlines())}
    assert set(rows) == {"t_never", "t_forged"} and rows["t_never"]["attempts"] == 4
    # Werkzeug 3 colours its log even in a file.
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text())
    assert len(re.findall(r'"POST /webhooks/humcli HTTP/1.1" 401', plain)) == 4
    assert any("401" in line for line in worker.err), worker.err
