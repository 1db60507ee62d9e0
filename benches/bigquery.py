"""The section on writing to BigQuery: to a server on this machine that throws rows away, so that it is the client that is measured.

The server has the same cores as the client, and takes part of them: what it took stands beside. Rows are the Arrow batches of
examples/append_arrow.rs for the clients alone, and files for whole commands.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import urllib.parse
import urllib.request

from measure import HEADER, MB, Server, medians

# Paths of what is measured; the Python with Google's client may be None.
Programs = collections.namedtuple("Programs", "null_server append_arrow google_python")
GB = 1_000 * MB
# The streams first.
METHODS = ("storage_write", "storage_write_pending", "load_job")


class NullServer(Server):
    """One server for one measurement. `plain` and `tls` are its addresses."""

    def __init__(self, *command):
        super().__init__(*command)
        self.plain, self.tls = self.place["plain"], self.place.get("tls")

    def stats(self):
        with urllib.request.urlopen(f"{self.plain}/stats") as answer:
            return json.load(answer)


def null_server(programs, certificate):
    return NullServer(programs.null_server, "--tls", certificate, key_of(certificate))


def key_of(certificate):
    return certificate.with_suffix(".key")


def make_certificate(path):
    """A certificate of `localhost` that signs itself."""
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key_of(path), "-out", path],
        capture_output=True, text=True, check=False,
    )
    if made.returncode != 0:
        sys.exit(f"openssl makes no certificate:\n{made.stderr}")
    return path


class Clients:
    """Clients that send the same Arrow batches: ours, by each method, and Google's in Python."""

    def __init__(self, bench, programs, megabytes):
        self.bench, self.programs, self.megabytes = bench, programs, megabytes
        self.certificate = make_certificate(bench.work / "localhost.pem")
        self.pool = bench.work / "orders.arrow"
        self.run([programs.append_arrow, "--write", self.pool])
        encoded = json.loads(self.run(self.ours("--encode-only")))
        # The work, for whoever does it.
        self.batches, self.rows, self.arrow_bytes = (encoded[name] for name in ("batches", "rows", "arrow_bytes"))

    def ours(self, *more):
        return [self.programs.append_arrow, "--megabytes", str(self.megabytes), *more]

    def run(self, command):
        # Who we trust; and as Longshore sets it for itself.
        env = os.environ | {"SSL_CERT_FILE": str(self.certificate)}
        env.setdefault("MIMALLOC_PURGE_DELAY", "100")
        done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
        return done.stdout

    def cases(self):
        """Label and command of everything that is measured, by a key; the command from a server's address."""
        cases = {("encode", ""): ("Arrow messages and their digest, sent nowhere", lambda _: self.ours("--encode-only"))}
        for wire in ("plain", "tls"):
            for method in METHODS:
                cases[method, wire] = (
                    f"Longshore, `{method}`, {wire}",
                    lambda server, method=method: self.ours("--method", method, "--server", server),
                )
            if self.programs.google_python:
                cases["google", wire] = (f"Google's client in Python, a pending stream, no digest, {wire}", self.google)
        return cases

    def google(self, server):
        script = pathlib.Path(__file__).with_name("append_arrow.py")
        return [self.programs.google_python, script, "--server", server, "--certificate", self.certificate,
                "--pool", self.pool, "--batches", self.batches]

    def once(self, key, command):
        """Wall and CPU seconds, peak MiB, the server's CPU seconds, bytes sent."""
        method, wire = key
        with null_server(self.programs, self.certificate) as server:
            before = server.stats()["cpu_seconds"]
            done = json.loads(self.run(command(server.tls if wire == "tls" else server.plain)))
            stats = server.stats()
        arrived = {"encode": done["rows"], "load_job": done["rows"] if stats["upload_bytes"] == done["sent_bytes"] else 0}
        if not done["rows"] == self.rows == arrived.get(method, stats["rows"]):
            sys.exit(f"{method}, {wire}: of {self.rows} rows {done['rows']} were sent, and the server saw {stats}")
        return done["wall_seconds"], done["cpu_seconds"], done["peak_mib"], stats["cpu_seconds"] - before, done["sent_bytes"]

    def measured(self):
        """The medians of `once` of each case. Cases take turns, so that a slow minute of the machine falls on all of them."""
        cases = self.cases()
        results = {key: [] for key in cases}
        for _ in range(self.bench.runs):
            for key, (_, command) in cases.items():
                results[key].append(self.once(key, command))
        return {key: medians(figures) for key, figures in results.items()}

    def print(self):
        figures = self.measured()
        labels = {key: label for key, (label, _) in self.cases().items()}
        gigabytes = self.arrow_bytes / GB
        print(f"\n{self.rows:,} rows, {self.arrow_bytes / MB:,.0f} MB of Arrow in {self.batches} batches:\n")
        print("| what | sent | wall | rate of Arrow | / Google's | CPU / GB | the server's CPU / GB | peak memory |\n|---|---|---|---|---|---|---|---|")
        for key, (wall, cpu, peak, server, sent) in figures.items():
            peer = figures.get(("google", key[1]))
            # Files for load jobs are another way, which this peer has not.
            ratio = f"{peer[0] / wall:.2f} x" if peer and key[0] in METHODS[:2] else ""
            print(f"| {labels[key]} | {sent / MB:,.0f} MB | {wall:.2f} s | {self.arrow_bytes / MB / wall:,.0f} MB/s | {ratio} "
                  f"| {cpu / gigabytes:.2f} s | {server / gigabytes:.2f} s | {peak:,.0f} MiB |")
        self.print_split({key: (wall / gigabytes, cpu / gigabytes) for key, (wall, cpu, *_) in figures.items()})

    def print_split(self, per_gigabyte):
        """Where the CPU of streams goes. Each figure is a difference of two lines above, so noise of a few hundredths is in it."""
        encode = per_gigabyte["encode", ""][1]
        print("\n| seconds per GB of Arrow | encode and digest | send | TLS | all CPU | wall | wait |\n|---|---|---|---|---|---|---|")
        for method in METHODS[:2]:
            plain, (wall, tls) = per_gigabyte[method, "plain"][1], per_gigabyte[method, "tls"]
            print(f"| `{method}` over TLS | {encode:.2f} | {plain - encode:.2f} | {tls - plain:.2f} | {tls:.2f} | {wall:.2f} | {max(wall - tls, 0):.2f} |")
        print("\nEncode and digest: that alone, of the same batches. Send: a stage without TLS, less that. TLS: a stage with it, less one "
              "without. Wait: wall less all CPU, nothing if both cores were busy for longer than that.")


def loads(bench, programs, certificate, inputs):
    """Files to the null server by whole commands."""
    print(f"\n{HEADER}")
    for name, more in (("xml", []), ("json", ["--table", "orders"]), ("csv", ["--table", "orders"])):
        for method in ("load_job", "storage_write_pending"):
            label = f"{name.upper()} -> BigQuery by `{method}`, published into nothing"
            bench.line(label, inputs[name].stat().st_size, lambda: load(bench, programs, certificate, method, [inputs[name], *more]))


def load(bench, programs, certificate, method, arguments):
    with null_server(programs, certificate) as server:
        settings = {"method": method, "anonymous": "true", "endpoint": server.plain, "write_endpoint": server.plain,
                    "storage_endpoint": server.plain}
        if method == "load_job":
            settings["staging"] = "gs://bench/staging"
        to = f"bigquery://bench/bench?{urllib.parse.urlencode(settings)}"
        result = bench.fresh([bench.longshore, "load", *map(str, arguments), "--to", to, "--quiet"])
        stats = server.stats()
    if not stats["upload_bytes" if method == "load_job" else "rows"]:
        sys.exit(f"{method}: nothing has arrived")
    return result


def section(bench, programs, inputs, megabytes):
    if not programs.google_python:
        print("==== SKIPPED: Google's client, for which --google-python is not given ====", file=sys.stderr)
    clients = Clients(bench, programs, megabytes)
    clients.print()
    loads(bench, programs, clients.certificate, inputs)
