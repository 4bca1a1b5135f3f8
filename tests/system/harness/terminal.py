"""A verb on a terminal of its own."""

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import termios


def run_at_terminal(cli, *arguments, streams=("stdout",), columns=200, environment=None,
                    **settings):
    """Runs a verb whose streams are a terminal; the others are pipes. Returns the
    exit code, what the terminal got, and what the other streams got."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    places = {name: theirs if name in streams else subprocess.PIPE
              for name in ("stdout", "stderr")}
    with subprocess.Popen([cli.program, *map(str, arguments)], stdin=subprocess.DEVNULL,
                          env={**cli.environment(**settings), **(environment or {})},
                          **places) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):      # EIO is the end of a terminal
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
        rest = b"".join(stream.read() for stream in (process.stdout, process.stderr) if stream)
        return process.wait(60), shown.decode(), rest.decode()
