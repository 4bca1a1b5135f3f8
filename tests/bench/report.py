"""The results: each run as a line of CSV, the medians as tables, and a
chart."""

import collections
import csv
import os
import platform
import re
import statistics
import subprocess
import tempfile
import time

import contenders
from database import DISKS

OURS = "lighttpd-socket"
FIELDS = ("part", "disk", "contender", "connections", "rate", "round", "ok", "others", "broken",
          "rows", "void", "seconds", "per_second", "p50", "p99", "p999", "max")


class Results:
    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.runs = []
        self.notes = collections.defaultdict(dict)
        self.machine = describe_machine()

    @property
    def void(self):
        return any(run["void"] for run in self.runs)

    def add(self, outcome, **facts):
        self.runs.append({
            **dict.fromkeys(FIELDS, ""), **facts, "ok": outcome.ok, "others": outcome.others,
            "broken": outcome.broken, "seconds": f"{outcome.seconds:.3f}",
            "per_second": outcome.ok / outcome.seconds, **outcome.micros})

    def note(self, what, name, value):
        self.notes[what][name] = value

    def write(self):
        text = "\n\n".join([self.machine, *self.tables()]) + "\n"
        print("\n" + text)
        with open(os.path.join(self.folder, "results.csv"), "w", encoding="ascii",
                  newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            for run in self.runs:
                writer.writerow({**run, "per_second": f"{run['per_second']:.1f}"})
        for name, content in (("results.md", text), ("chart.svg", self.chart())):
            with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
                file.write(content)
        print(f"{self.folder}: results.csv results.md chart.svg")

    # Medians of the valid runs.

    def select(self, **facts):
        return [run for run in self.runs
                if not run["void"] and all(run[key] == value for key, value in facts.items())]

    def median(self, field, **facts):
        values = [run[field] for run in self.select(**facts)]
        return statistics.median(values) if values else None

    def values(self, field, **facts):
        """Returns the values of a field, in order of appearance."""
        return list(dict.fromkeys(run[field] for run in self.select(**facts)))

    def tables(self):
        for disk in DISKS:
            if self.select(part="latency", disk=disk):
                yield self.latency_table(disk)
        if self.select(part="cold"):
            yield self.cold_table()
        for disk in DISKS:
            if self.select(part="throughput", disk=disk):
                yield self.throughput_table(disk)
        others = [part for part in self.values("part")
                  if part not in ("latency", "cold", "throughput", "memory")]
        if others:
            yield self.others_table(others)
        for what, values in self.notes.items():
            yield table([what, ""], [[name, number(value)] for name, value in values.items()])
        void = sum(run["void"] for run in self.runs)
        yield f"{len(self.runs)} runs, {void} of them void."

    def latency_table(self, disk):
        rates = sorted(self.values("rate", part="latency", disk=disk))
        rows = []
        for name in self.values("contender", part="latency", disk=disk):
            cells = [name]
            for rate in rates:
                facts = {"part": "latency", "disk": disk, "contender": name, "rate": rate}
                runs = self.select(**facts)
                cells.append(" / ".join(millis(value) for value in (
                    *(self.median(field, **facts) for field in ("p50", "p99", "p999")),
                    max((run["max"] for run in runs), default=None))))
                refused = sum(run["others"] + run["broken"] for run in runs)
                cells[-1] += f" ({refused} not 200)" if refused else ""
            rows.append(cells)
        return (f"Latency in ms at a steady rate, disk {disk}: p50 / p99 / p99.9 / max\n\n"
                + table(["", *(f"{rate} events/s" for rate in rates)], rows))

    def cold_table(self):
        rows = []
        for name in self.values("contender", part="cold"):
            times = [run["max"] for run in self.select(part="cold", contender=name)]
            rows.append([name, millis(statistics.median(times)), millis(max(times))])
        return ("The first request after the start, its TLS connection included, in ms\n\n"
                + table(["", "median", "max"], rows))

    def throughput_table(self, disk):
        facts = {"part": "throughput", "disk": disk}
        connections = sorted(self.values("connections", **facts))
        rows = []
        for name in self.values("contender", **facts):
            cells = [name]
            for count in connections:
                it = {**facts, "contender": name, "connections": count}
                value, ours = self.median("per_second", **it), self.median(
                    "per_second", **{**it, "contender": OURS})
                runs = self.select(**it)
                refused = sum(run["others"] + run["broken"] for run in runs)
                cells += [number(value) + (f" ({refused} not 200)" if refused else ""),
                          number(ours / value, 2) if ours and value else ""]
            rows.append((self.median("per_second", **facts, contender=name), cells))
        head = [""]
        for count in connections:
            head += [f"{count} connections", f"{OURS} has"]
        rows.sort(key=lambda row: row[0], reverse=True)
        return (f"Events a second, disk {disk}\n\n"
                + table(head, [[c + " ×" if i and i % 2 == 0 and c else c
                                for i, c in enumerate(cells)] for _, cells in rows]))

    def others_table(self, parts):
        rows = []
        for part in parts:
            for name in self.values("contender", part=part):
                facts = {"part": part, "contender": name}
                rows.append([part, name, number(self.median("per_second", **facts)),
                             millis(self.median("p50", **facts)),
                             millis(self.median("p99", **facts))])
        return table(["", "", "events/s", "p50 ms", "p99 ms"], rows)

    def chart(self):
        """Returns a bar chart of events per second on both disks, and of p99 at
        the highest rate."""
        panels = []
        for disk in DISKS:
            facts = {"part": "throughput", "disk": disk}
            connections = sorted(self.values("connections", **facts))
            if connections:
                middle = connections[len(connections) // 2]
                panels.append((f"Events a second, {middle} connections, disk {disk}", [
                    (name, self.median("per_second", **facts, contender=name,
                                       connections=middle))
                    for name in self.values("contender", **facts)]))
        for disk in DISKS:
            rates = self.values("rate", part="latency", disk=disk)
            if rates:
                panels.append((f"p99 in ms at {max(rates)} events a second, disk {disk}", [
                    (name, self.median("p99", part="latency", disk=disk, contender=name,
                                       rate=max(rates)) / 1000)
                    for name in self.values("contender", part="latency", disk=disk)]))
        return svg([(title, sorted((bar for bar in bars if bar[1] is not None),
                                   key=lambda bar: bar[1])) for title, bars in panels])


def number(value, digits=None):
    if value is None:
        return "-"
    if digits is None:
        digits = 0 if value >= 100 else 1
    return f"{value:,.{digits}f}"


def millis(micros):
    return "-" if micros is None else number(micros / 1000, 1 if micros < 100000 else 0)


def table(head, rows):
    """Returns a Markdown table with aligned columns."""
    rows = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
             for row in rows]
    lines.insert(1, "| " + " | ".join("-" * max(width, 3) for width in widths) + " |")
    return "\n".join(lines)


def svg(panels):
    width, label, bar, gap = 860, 190, 18, 6
    out, y = [], 10
    for title, bars in panels:
        y += 26
        out.append(f'<text x="10" y="{y}" font-weight="bold">{title}</text>')
        y += 10
        most = max((value for _, value in bars), default=1)
        for name, value in bars:
            length = max(1, value / most * (width - label - 110))
            colour = "#c0392b" if name == OURS else (
                "#7f8c8d" if name in (*contenders.OTHERS, contenders.PHP_CONNECTS) else
                "#e6b0aa" if name in contenders.OURS else "#34495e")
            out.append(f'<text x="{label - 8}" y="{y + 13}" text-anchor="end">{name}</text>'
                       f'<rect x="{label}" y="{y}" width="{length:.1f}" height="{bar}"'
                       f' fill="{colour}"/>'
                       f'<text x="{label + length + 6:.1f}" y="{y + 13}">{number(value)}</text>')
            y += bar + gap
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 10}"'
            ' font-family="sans-serif" font-size="12">\n'
            f'<rect width="{width}" height="{y + 10}" fill="white"/>\n'
            + "\n".join(out) + "\n</svg>\n")


def first_line(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def sync_micros():
    """Returns the time of fdatasync() after 8 KiB, on PostgreSQL's file
    system."""
    times = []
    with tempfile.TemporaryFile(dir="/tmp") as file:
        for _ in range(200):
            file.write(b"\0" * 8192)
            file.flush()
            start = time.monotonic()
            os.fdatasync(file.fileno())
            times.append((time.monotonic() - start) * 1e6)
    return statistics.median(times)


def describe_machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        cpu = re.search(r"^model name\s*: (.*)$", file.read(), re.MULTILINE)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    versions = ", ".join(re.sub(r" *[(\[].*|Copyright.*", "", line) for line in (
        "PostgreSQL " + first_line("pg_config", "--version").split()[1], first_line("/usr/sbin/lighttpd", "-v"),
        first_line("/usr/sbin/apache2", "-v").replace("Server version: ", ""),
        first_line("gunicorn", "--version"), first_line("php", "--version"),
        "Node.js " + first_line("node", "--version"), first_line("wrk", "--version")))
    return (f"{os.cpu_count()} × {cpu[1] if cpu else platform.machine()}, "
            f"{pages / 2 ** 30:.0f} GiB, Linux {platform.release()}; "
            f"fdatasync {sync_micros():.0f} µs; load {os.getloadavg()[0]:.2f} at the start.\n"
            f"{versions}.\nAll of it, load and database too, on this one machine.")
