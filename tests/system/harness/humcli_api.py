"""A stub of HumCLI's API, made from the documented shapes, and its faults."""

import json
import ssl
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TERMINAL = ("COMPLETED", "CANCELLED")


class HumcliApi:
    """
    Serves tasks on a loopback port. tasks: by id, the owner's key and the
    status. A fault is a function of a request that answers it in place of the
    stub, or returns None. skew: how far HumCLI's clock is ahead, in seconds.
    """

    def __init__(self, certificate=None, key=None):
        self.tasks = {}
        self.fields = {}            # by id: further fields
        self.fault = None
        self.skew = 0
        self.before_task = None     # called before a task's answer
        self.after_page = None      # called after each page
        self.requests = []          # (path, key)
        self.created = []           # bodies of tasks
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        self.scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = "https"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def port(self):
        return self.server.server_address[1]

    @property
    def url(self):
        host = "localhost" if self.scheme == "https" else "127.0.0.1"
        return f"{self.scheme}://{host}:{self.port}/api/v1"

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def put(self, task_id, status, owner="hk_main", **fields):
        with self.lock:
            self.tasks[task_id] = (owner, status)
            self.fields[task_id] = fields

    def item(self, task_id):
        """A task as the list has it."""
        return {"task_id": task_id, "title": "Photograph the door", "status": self.tasks[task_id][1],
                "task_type": "PHOTO", "reward_usd": 5, "operator_id": "op_1",
                "created_at": "2026-03-01T12:00:00.000Z", "deadline": "2026-12-31T12:00:00.000Z"}

    def page(self, key, query):
        limit = min(int(query.get("limit", ["20"])[0]), 100)
        offset = int(query.get("offset", ["0"])[0])
        with self.lock:
            # the order is not stated
            found = sorted((task for task, (owner, status) in self.tasks.items()
                            if owner == key and status in query.get("status", [status])), key=lambda task: task[::-1])
            answer = {"data": [self.item(task) for task in found[offset:offset + limit]],
                      "pagination": {"limit": limit, "offset": offset, "total": len(found)}, "sandbox": True}
        if self.after_page:
            self.after_page(query)
        return 200, answer

    def task(self, key, task_id):
        if self.before_task:
            self.before_task(task_id)
        with self.lock:
            if self.tasks.get(task_id, (None,))[0] != key:
                return 404, {"error": "Task not found"}
            return 200, {**self.item(task_id), **self.fields[task_id], "sandbox": True}

    def answer(self, request):
        """Returns the status, the body and further headers."""
        url = urlsplit(request.path)
        key = request.headers.get("X-API-Key")
        with self.lock:
            self.requests.append((request.path, key))
        odd = self.fault and self.fault(request)
        if odd:
            return odd
        parts = url.path.split("/")
        if parts[:4] != ["", "api", "v1", "tasks"]:
            return 404, {"error": "Not found"}
        if not key or not key.startswith("hk_"):
            return 401, {"error": "Invalid API key"}
        return self.task(key, unquote(parts[4])) if len(parts) > 4 else self.page(key, parse_qs(url.query))

    def handler(self):
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True      # else each answer takes 40 ms

            def date_time_string(self, timestamp=None):
                return formatdate((timestamp or time.time()) + api.skew, usegmt=True)

            def do_GET(self):   # pylint: disable=invalid-name
                status, body, *headers = api.answer(self)
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    for name, value in (headers[0] if headers else {}).items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    self.close_connection = True

            def do_POST(self):   # pylint: disable=invalid-name
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                api.created.append(body)
                api.put("task_new", "PENDING", self.headers["X-API-Key"])
                self.path += "/task_new"
                self.do_GET()

            def log_message(self, *arguments):
                pass

        return Handler
