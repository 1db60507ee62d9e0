"""The benchmarks: one command (`cargo x bench`), medians of three runs, peers and physical limits in the same run.

Prints a Markdown table. Inputs are generated once into the work folder from a fixed seed.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import time

MB = 1_000_000


def measure(command, cwd, env=None):
    """Runs a command; returns (wall seconds, CPU seconds, peak resident MiB)."""
    start = time.perf_counter()
    child = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{errors.decode()}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def words(rng, count):
    return " ".join(rng.choice(WORDS) for _ in range(count))


WORDS = [w + s for w in "harbour crane pier cargo tide anchor rope sail lantern barge gull mast".split() for s in ("", "s", "ing", "ed")]


def orders(rng):
    """Endless invented orders as tuples."""
    number = 0
    while True:
        number += 1
        yield (
            number,
            f"C{rng.randrange(100_000):05}",
            f"{rng.randrange(1995, 2026)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:{rng.randrange(60):02}:00",
            rng.randrange(1, 4),
            f"{rng.randrange(1, 100_000) / 100:.2f}",
            words(rng, 3),
            words(rng, 4),
            words(rng, 1),
            f"{rng.randrange(10_000, 99_999)}",
            rng.random() < 0.5,
        )


def order_xml(o):
    return (
        f"    <Order>\n      <OrderID>{o[0]}</OrderID>\n      <CustomerID>{o[1]}</CustomerID>\n      <OrderDate>{o[2]}</OrderDate>\n"
        f'      <ShipInfo ShippedDate="{o[2]}">\n        <ShipVia>{o[3]}</ShipVia>\n        <Freight>{o[4]}</Freight>\n'
        f"        <ShipName>{o[5]}</ShipName>\n        <ShipAddress>{o[6]}</ShipAddress>\n        <ShipCity>{o[7]}</ShipCity>\n"
        f"        <ShipPostalCode>{o[8]}</ShipPostalCode>\n      </ShipInfo>\n    </Order>\n"
    )


def customer_xml(i, rng):
    return (
        f'    <Customer CustomerID="C{i:05}">\n      <CompanyName>{words(rng, 3)}</CompanyName>\n      <Phone>(503) 555-{i % 10_000:04}</Phone>\n'
        f"      <FullAddress>\n        <Address>{words(rng, 4)}</Address>\n        <City>{words(rng, 1)}</City>\n      </FullAddress>\n    </Customer>\n"
    )


def write_xml(path, size):
    rng = random.Random(7)
    with open(path, "w") as f:
        f.write('<?xml version="1.0" encoding="utf-8"?>\n<Root>\n  <Customers>\n')
        for i in range(20_000):
            f.write(customer_xml(i, rng))
        f.write("  </Customers>\n  <Orders>\n")
        pool = "".join(order_xml(o) for o, _ in zip(orders(rng), range(20_000)))
        while f.tell() < size:
            f.write(pool)
        f.write("  </Orders>\n</Root>\n")


def order_json(o):
    return json.dumps(
        {"id": o[0], "customer": o[1], "at": o[2], "via": o[3], "freight": float(o[4]), "name": o[5], "address": o[6],
         "city": o[7], "zip": o[8], "paid": o[9]}
    ) + "\n"


def order_csv(o):
    return f"{o[0]},{o[1]},{o[2]},{o[3]},{o[4]},{o[5]},{o[6]},{o[7]},{o[8]},{str(o[9]).lower()}\n"


def write_lines(path, size, line, header=""):
    rng = random.Random(7)
    pool = "".join(line(o) for o, _ in zip(orders(rng), range(50_000)))
    with open(path, "w") as f:
        f.write(header)
        while f.tell() < size:
            f.write(pool)


PEERS = {
    "lxml.iterparse": """
import sys
from lxml import etree
n = 0
for _, e in etree.iterparse(sys.argv[1], tag="Order"):
    row = {c.tag: c.text if len(c) == 0 else {d.tag: d.text for d in c} for c in e}
    n += 1
    e.clear()
    while e.getprevious() is not None:
        del e.getparent()[0]
""",
    "xmltodict": """
import sys, xmltodict
n = 0
def item(path, value):
    global n
    n += 1
    return True
with open(sys.argv[1], "rb") as f:
    xmltodict.parse(f, item_depth=3, item_callback=item)
""",
    "duckdb read_json": """
import sys, duckdb
duckdb.sql("set threads=2")
duckdb.sql(f"copy (select * from read_json('{sys.argv[1]}')) to '{sys.argv[2]}' (format parquet)")
""",
    "duckdb read_csv": """
import sys, duckdb
duckdb.sql("set threads=2")
duckdb.sql(f"copy (select * from read_csv('{sys.argv[1]}')) to '{sys.argv[2]}' (format parquet)")
""",
}


class Bench:
    def __init__(self, longshore, work, runs):
        self.longshore, self.work, self.runs = longshore, work, runs

    def median(self, label, size, make, prepare=lambda: None):
        results = []
        for _ in range(self.runs):
            prepare()
            results.append(measure(make(), self.work))
        wall, cpu, rss = (statistics.median(r[i] for r in results) for i in range(3))
        print(f"| {label} | {size / MB:,.0f} MB | {wall:.1f} s | {size / MB / wall:,.0f} MB/s | {cpu:.1f} s | {rss:,.0f} MiB |", flush=True)
        return size / wall

    def load(self, label, path, more):
        def clean():
            for folder in ("warehouse", ".longshore"):
                shutil.rmtree(self.work / folder, ignore_errors=True)

        command = [self.longshore, "load", str(path), "--to", "warehouse/bench", "--quiet", *more]
        return self.median(label, path.stat().st_size, lambda: command, clean)

    def peer(self, name, path):
        target = self.work / "peer.parquet"
        return self.median(name, path.stat().st_size, lambda: [sys.executable, "-c", PEERS[name], str(path), str(target)])


def generated(path, size, write):
    if not path.exists() or path.stat().st_size < size:
        partial = path.with_suffix(".partial")
        write(partial, size)
        partial.rename(path)
    return path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--longshore", required=True)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--large", action="store_true", help="also one 10 GB file, once, for its peak memory")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    size = options.megabytes * MB
    work = options.work
    xml = generated(work / "orders.xml", size, write_xml)
    small_xml = generated(work / "orders-small.xml", min(size, 100 * MB), write_xml)
    lines = generated(work / "orders.jsonl", size, lambda p, s: write_lines(p, s, order_json))
    table = generated(work / "orders.csv", size, lambda p, s: write_lines(p, s, order_csv, "id,customer,at,via,freight,name,address,city,zip,paid\n"))
    bench = Bench(options.longshore, work, options.runs)
    print("| what | input | wall | rate | CPU | peak memory |\n|---|---|---|---|---|---|")
    ours = bench.load("XML -> Delta", xml, [])
    bench.load("XML -> Delta, small file", small_xml, [])
    for peer in ("lxml.iterparse", "xmltodict"):
        rate = bench.peer(peer, small_xml)
        print(f"| ... Longshore / {peer} | | | {ours / rate:.1f} x | | |")
    json_rate = bench.load("JSON lines -> Delta", lines, ["--table", "orders"])
    print(f"| ... Longshore / DuckDB | | | {json_rate / bench.peer('duckdb read_json', lines):.2f} x | | |")
    csv_rate = bench.load("CSV -> Delta", table, ["--table", "orders"])
    print(f"| ... Longshore / DuckDB | | | {csv_rate / bench.peer('duckdb read_csv', table):.2f} x | | |")
    limit = bench.median("limit: read the file and write it again", size, lambda: ["cp", str(lines), str(work / "copy")])
    print(f"| ... JSON lines / limit | | | {json_rate / limit:.2f} x | | |")
    if options.large:
        large = generated(work / "orders-large.xml", 10_000 * MB, write_xml)
        Bench(options.longshore, work, 1).load("XML -> Delta, 10 GB", large, [])


if __name__ == "__main__":
    main()
