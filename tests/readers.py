"""Other readers of our tables see what `longshore query` says.

Usage: readers.py PATH_TO_LONGSHORE. Loads files that use every shape of value into a temporary warehouse, then reads each
table with delta-rs, Polars and DuckDB and compares rows, columns and values.
"""

import datetime
import decimal
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import deltalake
import duckdb
import duckdb_extension_delta
import polars

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

EVENTS = """\
{"id": 1, "big": 9007199254740993, "ratio": 0.5, "ok": true, "at": "2024-05-01T06:00:00.123456Z", "day": "2024-05-01", "local": "2024-05-01T06:00:00", "tags": ["a", "b"], "who": {"name": "Ada", "age": 36}}
{"id": 2, "big": -1, "ratio": -1e300, "ok": false, "at": "1969-12-31T23:59:59.999999Z", "day": "0001-01-01", "local": "9999-12-31T23:59:59", "tags": [], "who": {"name": "größe ✓", "age": null}}
{"id": 3, "tags": ["x"], "who": {}}
"""


class Longshore:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder

    def __call__(self, *args):
        run = subprocess.run([self.binary, *args], cwd=self.folder, capture_output=True, text=True)
        if run.returncode != 0:
            sys.exit(f"longshore {' '.join(args)} failed ({run.returncode}):\n{run.stderr}")
        return run.stdout

    def rows(self, sql):
        return [json.loads(line) for line in self("query", "--json", sql).splitlines()]


def plain(value):
    """A value of any reader as `query --json` writes it."""
    match value:
        case bool() | None | str():
            return value
        case int():
            return str(value) if abs(value) > 2**53 else value
        case float():
            return value
        case decimal.Decimal():
            text = format(value, "f")
            return text.rstrip("0").rstrip(".") if "." in text else text
        case datetime.datetime():
            text = value.astimezone(datetime.timezone.utc).replace(tzinfo=None) if value.tzinfo else value
            fraction = f".{text.microsecond:06}" if text.microsecond else ""
            fraction = fraction[:4] if fraction.endswith("000") else fraction
            stamp = f"{text.year:04}-{text.month:02}-{text.day:02}T{text.hour:02}:{text.minute:02}:{text.second:02}{fraction}"
            return stamp + ("Z" if value.tzinfo else "")
        case datetime.date():
            return value.isoformat()
        case list():
            return [plain(item) for item in value]
        case dict():
            return {key: plain(item) for key, item in value.items()}
    sys.exit(f"no plain form of {value!r}")


def comparable(rows):
    return sorted(json.dumps(row, sort_keys=True, ensure_ascii=False) for row in rows)


def readers(path):
    yield "delta-rs", lambda: from_delta_rs(path)
    yield "polars", lambda: polars.read_delta(str(path)).to_dicts()
    yield "duckdb", lambda: from_duckdb(path)


def from_delta_rs(path):
    query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(path))
    return polars.DataFrame(query.execute("select * from t").read_all()).to_dicts()


def from_duckdb(path):
    connection = duckdb.connect()
    connection.execute("set TimeZone = 'UTC'")
    # From its package: nothing is downloaded at run time.
    extension = next(Path(duckdb_extension_delta.__file__).parent.rglob("delta.duckdb_extension*"))
    connection.execute(f"load '{extension}'")
    cursor = connection.execute(f"select * from delta_scan('{path}')")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor.fetchall()]


def main():
    binary = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        longshore = Longshore(binary, folder)
        (folder / "events.jsonl").write_text(EVENTS)
        longshore("load", "events.jsonl", "--to", "warehouse/shop", "--partition-by", "events=day")
        longshore("load", str(EXAMPLES / "shop" / "*.xml"), "--to", "warehouse/shop")
        failures, compared = [], 0
        for table in ("events", "customers", "orders"):
            ours = comparable(longshore.rows(f"select * from shop.{table}"))
            assert ours, f"{table} is empty"
            for reader, read in readers(folder / "warehouse" / "shop" / table):
                theirs = comparable([{key: plain(value) for key, value in row.items()} for row in read()])
                compared += 1
                if ours != theirs:
                    difference = [f"  ours:   {a}\n  theirs: {b}" for a, b in zip(ours, theirs) if a != b][:3]
                    failures.append(f"{reader} reads {table} differently ({len(ours)} and {len(theirs)} rows)\n" + "\n".join(difference))
        if failures:
            sys.exit("\n".join(failures))
        print(f"{compared} tables read alike by delta-rs, Polars and DuckDB")


if __name__ == "__main__":
    main()
