"""The benchmarks: one command (`cargo x bench`), medians of three runs, peers and physical limits in the same run.

Prints Markdown tables. Inputs are generated once into the work folder from a fixed seed.
"""

import argparse
import json
import pathlib
import random
import sys

import bigquery
import streams
from measure import HEADER, MB, Bench, measure

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


class Files:
    """Loads into the embedded warehouse, and peers that read the same files."""

    def __init__(self, bench):
        self.bench = bench

    def load(self, label, path, more):
        command = [self.bench.longshore, "load", str(path), "--to", "warehouse/bench", "--quiet", *more]
        return self.bench.line(label, path.stat().st_size, lambda: self.bench.fresh(command))

    def peer(self, name, path):
        command = [sys.executable, "-c", PEERS[name], str(path), str(self.bench.work / "peer.parquet")]
        return self.bench.line(name, path.stat().st_size, lambda: measure(command, self.bench.work))


def generated(path, size, write):
    if not path.exists() or path.stat().st_size < size:
        partial = path.with_suffix(".partial")
        write(partial, size)
        partial.rename(path)
    return path


def files(bench, inputs, large):
    """Files of every format into the embedded warehouse, beside peers and the disk."""
    section = Files(bench)
    print(HEADER)
    ours = section.load("XML -> Delta", inputs["xml"], [])
    section.load("XML -> Delta, small file", inputs["small xml"], [])
    for peer in ("lxml.iterparse", "xmltodict"):
        rate = section.peer(peer, inputs["small xml"])
        print(f"| ... Longshore / {peer} | | | {ours / rate:.1f} x | | |")
    json_rate = section.load("JSON lines -> Delta", inputs["json"], ["--table", "orders"])
    print(f"| ... Longshore / DuckDB | | | {json_rate / section.peer('duckdb read_json', inputs['json']):.2f} x | | |")
    csv_rate = section.load("CSV -> Delta", inputs["csv"], ["--table", "orders"])
    print(f"| ... Longshore / DuckDB | | | {csv_rate / section.peer('duckdb read_csv', inputs['csv']):.2f} x | | |")
    copy = ["cp", str(inputs["json"]), str(bench.work / "copy")]
    limit = bench.line("limit: read the file and write it again", inputs["json"].stat().st_size, lambda: measure(copy, bench.work))
    print(f"| ... JSON lines / limit | | | {json_rate / limit:.2f} x | | |")
    if large:
        path = generated(bench.work / "orders-large.xml", 10_000 * MB, write_xml)
        Files(Bench(bench.longshore, bench.work, 1)).load("XML -> Delta, 10 GB", path, [])


def make_inputs(work, size):
    header = "id,customer,at,via,freight,name,address,city,zip,paid\n"
    return {
        "xml": generated(work / "orders.xml", size, write_xml),
        "small xml": generated(work / "orders-small.xml", min(size, 100 * MB), write_xml),
        "json": generated(work / "orders.jsonl", size, lambda p, s: write_lines(p, s, order_json)),
        "csv": generated(work / "orders.csv", size, lambda p, s: write_lines(p, s, order_csv, header)),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--longshore", required=True)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--large", action="store_true", help="also one 10 GB file, once, for its peak memory")
    parser.add_argument("--only", choices=["files", "bigquery", "streams"], help="one section instead of all")
    parser.add_argument("--null-server", help="the example null_bigquery; for the section bigquery, with the next one")
    parser.add_argument("--append-arrow", help="the example append_arrow")
    parser.add_argument("--kafka-bench", help="the example kafka_bench; for the section streams, with --null-server and the next one")
    parser.add_argument("--null-pubsub", help="the example null_pubsub")
    parser.add_argument("--google-python", help="a Python that has Google's client of BigQuery Storage")
    options = parser.parse_args()
    sections = [options.only] if options.only else ["files", "bigquery", "streams"]
    needed = {"bigquery": ["null_server", "append_arrow"], "streams": ["kafka_bench", "null_pubsub", "null_server"]}
    for missing in (name for section in sections for name in needed.get(section, []) if not getattr(options, name)):
        parser.error(f"--{missing.replace('_', '-')} is needed")
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.longshore, options.work, options.runs)
    inputs = {} if sections == ["streams"] else make_inputs(options.work, options.megabytes * MB)
    if "files" in sections:
        files(bench, inputs, options.large)
    if "bigquery" in sections:
        programs = bigquery.Programs(options.null_server, options.append_arrow, options.google_python)
        bigquery.section(bench, programs, inputs, options.megabytes)
    if "streams" in sections:
        streams.section(bench, streams.Programs(options.kafka_bench, options.null_pubsub, options.null_server), options.megabytes)


if __name__ == "__main__":
    main()
