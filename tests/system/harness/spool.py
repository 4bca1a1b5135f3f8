"""A spool for the tests: reads its folders and writes files into them, in the
responder's form or damaged."""

import os
import re
import shutil
import tempfile
import time

from harness.responder import SECRET, chown_to_test_user, on_disk, sign

MAGIC = b"humcli-spool 1\n"


def render(body, signature=None, secret_name=b"main", received=None, length=None, magic=MAGIC):
    """Returns the content of a spool file."""
    if received is None:
        received = time.time_ns() // 1000
    return (magic + b"signature: " + (signature or sign(body)).encode()
            + b"\nsecret: " + secret_name
            + b"\nreceived: " + str(received).encode()
            + b"\nlength: " + str(len(body) if length is None else length).encode()
            + b"\n\n" + body)


class Spool:
    """
    A new folder for a spool; the responder makes the spool in it. Use as a
    context manager.
    """

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="humcli-spool-", dir=on_disk())
        chown_to_test_user(self.folder)
        self.path = os.path.join(self.folder, "spool")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    def file(self, *names):
        return os.path.join(self.path, *names)

    def names(self, folder):
        try:
            return sorted(name for name in os.listdir(self.file(folder)) if name[0] != ".")
        except FileNotFoundError:
            return []

    @property
    def waiting(self):
        return self.names("new")

    @property
    def failed(self):
        return self.names("failed")

    def make(self):
        """Makes the folders that the responder makes when it starts."""
        for path in (self.path, *map(self.file, ("tmp", "new", "failed"))):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o700)
            chown_to_test_user(path)

    def put(self, body, name=None, text=None, age=0):
        """Writes a waiting file in the responder's form; returns its name.
        text: another content. age: of the file, in seconds."""
        name = name or sign(body)
        path = self.file("new", name)
        with open(path, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(render(body) if text is None else text)
        chown_to_test_user(path)
        os.utime(path, times=(time.time() - age,) * 2)
        return name

    def read(self, name, folder="new"):
        with open(self.file(folder, name), "rb") as file:
            return file.read()

    def received(self, name):
        """Returns the time of receipt in the file, us since 1970."""
        return int(re.search(rb"^received: (\d+)$", self.read(name), re.MULTILINE)[1])
