"""Runs the command line program, humcli-webhook, for the tests."""

import os
import subprocess
import threading

from harness.postgres import wait_until

SECRET = "whsec_cli_0f5d2c"


class Cli:
    """Runs the program with no settings except the given ones."""

    def __init__(self, program, folder):
        self.program = str(program)
        self.folder = folder
        self.empty = folder / "empty.conf"
        self.empty.touch(mode=0o600)

    def environment(self, **settings):
        kept = {k: v for k, v in os.environ.items() if k == "PATH" or k.endswith("SAN_OPTIONS")}
        kept["HUMCLI_WEBHOOK_CONFIG"] = str(self.empty)
        kept.update({f"HUMCLI_WEBHOOK_{k}": str(v) for k, v in settings.items()})
        return kept

    def __call__(self, *arguments, stdin=b"", environment=None, **settings):
        """Runs a verb until it ends. Settings are keywords; without any, there
        is SECRET."""
        environment = {**self.environment(**(settings or {"SECRET": SECRET})),
                       **(environment or {})}
        done = subprocess.run([self.program, *map(str, arguments)], input=stdin,
                              capture_output=True, env=environment, timeout=60, check=False)
        assert SECRET.encode() not in done.stdout + done.stderr
        done.out, done.err = done.stdout.decode(), done.stderr.decode()
        return done

    def secret_file(self, name, key, mode=0o600):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(key)
        path.chmod(mode)
        return path


class Running:
    """A verb that keeps running. Its output is kept line by line."""

    def __init__(self, cli, *arguments, **settings):
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(
            [cli.program, *map(str, arguments)], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=cli.environment(**settings))
        self.out, self.err = [], []
        self.threads = [threading.Thread(target=self.keep, args=pair) for pair in
                        ((self.process.stdout, self.out), (self.process.stderr, self.err))]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def keep(stream, lines):
        for line in stream:
            lines.append(line)

    def said(self, text, times=1):
        """Waits until a message was logged that many times."""
        wait_until(lambda: sum(text in line for line in self.err) >= times
                   or self.process.poll() is not None,
                   f"{text!r}; there was {self.err}", limit=30)
        assert sum(text in line for line in self.err) >= times, self.err

    def printed(self, count):
        """Waits for that many lines of output; returns all lines."""
        wait_until(lambda: len(self.out) >= count, f"{count} lines; there were {self.out}")
        return [line.rstrip("\n") for line in self.out]

    def end(self, number=None):
        """Sends a signal, if one is given, and waits for the end. Returns the
        exit code."""
        if number:
            self.process.send_signal(number)
        code = self.process.wait(20)
        for thread in self.threads:
            thread.join()
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.end()
        self.process.stdout.close()
        self.process.stderr.close()
