"""The section on streams: Kafka and Pub/Sub into the embedded warehouse, on one machine with the broker, or the server, that sends.

Kafka is a real broker; what it sends is also read by a bare consumer of librdkafka, in the same run. Pub/Sub is a server of ours that makes
messages as fast as they are taken. Both take their part of the same cores.
"""

import collections
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from bigquery import NullServer
from measure import MB, Server, measure, medians

# Paths of what is measured with.
Programs = collections.namedtuple("Programs", "kafka_bench null_pubsub null_bigquery")
TABLES = 50
SUBSCRIPTION = "projects/bench/subscriptions/messages"
PUBSUB_COLUMNS = [{"name": name, "type": kind} for name, kind in (("id", "INT64"), ("kind", "STRING"), ("amount", "FLOAT64"), ("text", "STRING"))]


class Streams:
    """Pipelines in the work folder."""

    def __init__(self, bench):
        self.bench, self.work = bench, bench.work
        self.file, self.schemas = bench.work / "streams.yaml", bench.work / "schemas"

    def write(self, source, tables, columns, commit, destination=None, **more):
        """The pipeline file (JSON is YAML) and its schema files; nothing is left of an earlier run."""
        for folder in ("warehouse", ".longshore", "schemas"):
            shutil.rmtree(self.work / folder, ignore_errors=True)
        self.schemas.mkdir()
        for table in tables:
            (self.schemas / f"{table}.json").write_text(json.dumps(columns))
        destination = destination or {"type": "delta", "path": "warehouse", "dataset": "bench"}
        self.file.write_text(json.dumps({
            "pipeline": "bench", "source": source, "destination": destination, "schemas": str(self.schemas), "commit": {"every": commit}, **more,
        }))

    def command(self, *more):
        return [str(self.bench.longshore), "run", str(self.file), "--quiet", *more]

    def until_idle(self):
        """Wall and CPU seconds, peak MiB of a run that ends by itself."""
        return measure(self.command("--until-idle"), self.work)

    @contextlib.contextmanager
    def running(self):
        """A run in the background, stopped at the end; `usage` of what is given has its CPU seconds and peak MiB then."""
        usage = {}
        child = subprocess.Popen(self.command(), cwd=self.work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            yield usage
        finally:
            child.send_signal(signal.SIGTERM)
            errors = child.stderr.read()
            _, status, used = os.wait4(child.pid, 0)
        if os.waitstatus_to_exitcode(status) not in (0, 130, 143):
            sys.exit(f"the run failed:\n{errors.decode()}")
        usage.update(cpu=used.ru_utime + used.ru_stime, peak=used.ru_maxrss / 1024)

    def ask(self, *arguments):
        done = subprocess.run([self.bench.longshore, *arguments, "--json"], cwd=self.work, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{arguments} failed:\n{done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def count(self, table):
        return self.ask("query", f"select count(*) as n from bench.{table}")[0]["n"]


KINDS = ("json", "avro", "poison", "poison_large")


class KafkaCases:
    """Topics of the same records, as JSON, Avro and with poison among them."""

    def __init__(self, streams, running, messages):
        self.streams, self.running, self.messages, self.paced = streams, running, messages, 0
        self.bytes = {kind: running.ask("fill", kind, kind, messages)["bytes"] for kind in KINDS}

    def source(self, topic, **more):
        return {"type": "kafka", "brokers": self.running.place["brokers"], "topics": [topic], "route": {"header": "destination_table"}, **more}

    def land(self, kind):
        """Wall and CPU seconds and peak MiB of a whole run; every message has to be somewhere."""
        more = {"format": "avro", "registry": {"url": self.running.place["registry"]}} if kind == "avro" else {}
        self.streams.write(self.source(kind, **more), ["readings"], self.running.place["columns"], "10s")
        result = self.streams.until_idle()
        rows, letters = self.streams.count("readings"), self.streams.count("_dead_letters") if kind.startswith("poison") else 0
        if rows + letters != self.messages or kind.startswith("poison") != (letters > 0):
            sys.exit(f"{kind}: of {self.messages} messages {rows} are rows and {letters} dead letters")
        return result

    def bare(self):
        """What a bare consumer takes, in the same shape."""
        return self.running.ask("read", "json", self.messages)["seconds"], 0, 0

    def print(self):
        cases = {"bare": self.bare, **{kind: lambda kind=kind: self.land(kind) for kind in self.bytes}}
        results = {key: [] for key in cases}
        # They take turns, so that a slow minute of the machine falls on all of them.
        for _ in range(self.streams.bench.runs):
            for key, once in cases.items():
                results[key].append(once())
        figures = {key: medians(result) for key, result in results.items()}
        labels = {"bare": "a bare consumer of librdkafka, JSON", "json": "JSON -> Delta", "avro": "Avro (registry) -> Delta",
                  "poison": "JSON, 30 % of it poison -> Delta", "poison_large": "the same, each 10,000th record of 20 MB"}
        print(f"\n{self.messages:,} records in 4 partitions:\n")
        print("| what | input | wall | rate | records a second | / bare | / JSON, records | CPU | peak memory |\n|---|---|---|---|---|---|---|---|---|")
        wall_of_json = figures["json"][0]
        for key, (wall, cpu, peak) in figures.items():
            size = self.bytes.get(key, self.bytes["json"])
            used = f"{cpu:.1f} s | {peak:,.0f} MiB" if cpu else " | "
            print(f"| {labels[key]} | {size / MB:,.0f} MB | {wall:.1f} s | {size / MB / wall:,.0f} MB/s | {self.messages / wall:,.0f} "
                  f"| {figures['bare'][0] / wall * size / self.bytes['json']:.2f} x | {wall_of_json / wall:.2f} x | {used} |", flush=True)
        return self.messages / wall_of_json

    def latency(self, rate, seconds):
        """Seconds from produced to visible, of every row: when the commit that shows it was written, less the record's own time."""
        import duckdb

        self.paced += 1
        topic = f"paced{self.paced}"
        self.running.ask("fill", topic, "json", 0)
        columns = [*self.running.place["columns"], {"name": "produced_at", "type": "TIMESTAMP"}]
        self.streams.write(self.source(topic, columns={"time": "produced_at"}), ["readings"], columns, "1s")
        with self.streams.running() as usage:
            time.sleep(5)
            self.running.ask("pace", topic, rate, seconds)
            time.sleep(3)
        table = self.streams.work / "warehouse" / "bench" / "readings"
        shown = {}
        for commit in (table / "_delta_log").glob("*.json"):
            for action in map(json.loads, commit.read_text().splitlines()):
                if "add" in action:
                    shown[str(table / action["add"]["path"])] = commit.stat().st_mtime
        con = duckdb.connect()
        con.execute("set timezone = 'UTC'")
        con.execute("create table shown (path text, seconds double)")
        con.executemany("insert into shown values (?, ?)", list(shown.items()))
        rows, p50, p99, most = con.execute(
            "select count(*), quantile_cont(late, 0.5), quantile_cont(late, 0.99), max(late) from (select shown.seconds - epoch(produced_at) as late "
            "from read_parquet($files, filename = true) r join shown on r.filename = shown.path)", {"files": list(shown)}).fetchone()
        if rows != rate * seconds:
            sys.exit(f"latency: of {rate * seconds} records {rows} are rows")
        return p50, p99, most, usage["cpu"] / seconds, usage["peak"]


def kafka(streams, programs, megabytes):
    with Server(programs.kafka_bench) as running:
        cases = KafkaCases(streams, running, megabytes * 1_000)
        full = cases.print()
        rate = round(full / 10, -2)
        p50, p99, most, cpu, peak = medians(cases.latency(int(rate), 20) for _ in range(streams.bench.runs))
        print("\n| from produced to visible, commits each second | p50 | p99 | longest | CPU | peak memory |\n|---|---|---|---|---|---|")
        print(f"| {rate:,.0f} records a second for 20 s | {p50:.2f} s | {p99:.2f} s | {most:.2f} s | {cpu:.2f} of a core | {peak:,.0f} MiB |", flush=True)


def pubsub(streams, programs, messages):
    """Messages for 50 tables, into the embedded warehouse and to the null server of BigQuery; then with a table that is blocked."""
    print(f"\n{messages:,} messages of 1 KB for {TABLES} tables, commits every 5 s:\n")
    print("| what | from the first sent to the last acknowledged | messages a second | CPU | peak memory |\n|---|---|---|---|---|")
    for label, into_bigquery in (("Pub/Sub -> Delta", False), ("Pub/Sub -> BigQuery, published into nothing", True)):
        results = medians(land_messages(streams, programs, into_bigquery, messages) for _ in range(streams.bench.runs))
        seconds, cpu, peak = results
        print(f"| {label} | {seconds:.1f} s | {messages / seconds:,.0f} | {cpu:.1f} s | {peak:,.0f} MiB |", flush=True)
    parked, shown, peak = medians(one_is_blocked(streams, programs, 10_000, 45) for _ in range(streams.bench.runs))
    print("\n| 50 tables, one of them blocked, 10,000 messages a second for 45 s | commits that wait for it | rows of another table | peak memory |\n|---|---|---|---|")
    print(f"| Pub/Sub -> BigQuery, published into nothing | {parked:,.0f} | {shown:,.0f} | {peak:,.0f} MiB |", flush=True)


def write_pubsub(streams, sender, sink, commit, **more):
    source = {"type": "pubsub", "subscription": SUBSCRIPTION, "endpoint": sender.place["endpoint"], "route": {"attribute": "destination_table"}}
    destination = sink and {"type": "bigquery", "project": "bench", "dataset": "bench", "method": "storage_write", "anonymous": True,
                            "endpoint": sink.plain, "write_endpoint": sink.plain, "storage_endpoint": sink.plain}
    streams.write(source, [f"table_{n}" for n in range(TABLES)], PUBSUB_COLUMNS, commit, destination, **more)


def land_messages(streams, programs, into_bigquery, messages):
    with Server(programs.null_pubsub, SUBSCRIPTION, TABLES, 1000, 0, messages) as sender, \
            NullServer(programs.null_bigquery) if into_bigquery else contextlib.nullcontext() as sink:
        write_pubsub(streams, sender, sink, "5s")
        with streams.running() as usage:
            seconds = sender.answer()["seconds"]
        rows = sink.stats()["rows"] if sink else sum(streams.count(f"table_{n}") for n in range(TABLES))
    if rows != messages:
        sys.exit(f"of {messages} messages {rows} are rows")
    return seconds, usage["cpu"], usage["peak"]


def one_is_blocked(streams, programs, rate, seconds):
    with Server(programs.null_pubsub, SUBSCRIPTION, TABLES, 1000, rate, 0) as sender, NullServer(programs.null_bigquery, "--blocked", "table_7") as sink:
        write_pubsub(streams, sender, sink, "1s", parking={"after": "5s"})
        with streams.running() as usage:
            time.sleep(seconds)
            run = streams.ask("runs", "list")[0]["id"]
        events = streams.ask("runs", "show", run)[0]["events"]
    tables = [event for event in events if event["event"] == "flow"][-1]["tables"]
    if not tables["table_7"]["parked"]:
        sys.exit(f"the blocked table is not parked: {tables['table_7']}")
    return tables["table_7"]["parked"], tables["table_8"]["rows"], usage["peak"]


def section(bench, programs, megabytes):
    streams = Streams(bench)
    kafka(streams, programs, megabytes)
    pubsub(streams, programs, megabytes * 1_000)
