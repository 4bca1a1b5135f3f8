"""A headless Chromium, asked by its debugging protocol over two pipes."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time


def program():
    """Returns the path of Chromium, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One page. Console messages, failed loads and requests are kept."""

    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="humcli-chromium-")
        theirs, self.to = os.pipe()
        self.answers, to_us = os.pipe()
        # Chromium reads descriptor 3 and writes descriptor 4, which must not be
        # one of the two that they become. As root it has no sandbox, and a
        # container has little shared memory.
        ends = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (theirs, to_us)]
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{ends[0]} 4>&{ends[1]}', program(), "--headless",
             "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
             "--disable-background-networking", "--no-first-run", "--disable-extensions",
             "--remote-debugging-pipe", f"--user-data-dir={self.profile}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=ends)
        for each in (theirs, to_us, *ends):
            os.close(each)
        self.rest, self.number, self.session = b"", 0, None
        self.events = []
        pages = self.ask("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in pages if each["type"] == "page")
        self.session = self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def receive(self, limit):
        """Returns the next message."""
        until = time.monotonic() + limit
        while b"\0" not in self.rest:
            left = until - time.monotonic()
            ready, _, _ = select.select([self.answers], [], [], max(left, 0))
            assert ready, "Chromium does not answer"
            more = os.read(self.answers, 1 << 20)
            assert more, "Chromium has ended"
            self.rest += more
        text, self.rest = self.rest.split(b"\0", 1)
        return json.loads(text)

    def ask(self, method, **parameters):
        """Calls a method of the protocol; returns its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive(60)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def open(self, path, width, scheme="light"):
        """Loads a file, at that width in pixels."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900,
                 deviceScaleFactor=1, mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia", media="",
                 features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.ask("Page.navigate", url=path.as_uri())
        while not any(each.get("method") == "Page.loadEventFired" for each in self.events):
            self.events.append(self.receive(60))

    def complaints(self):
        """Returns console messages, errors, and requests but that of the page."""
        self.evaluate("0")
        wrong = [each for each in self.events if each.get("method") in (
            "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded",
            "Network.loadingFailed", "Page.javascriptDialogOpening")]
        requests = [each for each in self.events
                    if each.get("method") == "Network.requestWillBeSent"]
        return wrong + requests[1:]

    def evaluate(self, expression):
        """Returns the value of a JavaScript expression."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self):
        """Returns the whole page as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot",
                                         captureBeyondViewport=True)["data"])

    def close(self):
        """Ends the browser and removes its profile."""
        self.process.kill()
        self.process.wait()
        os.close(self.to)
        os.close(self.answers)
        shutil.rmtree(self.profile, ignore_errors=True)
