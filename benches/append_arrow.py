"""Sends rows to the Storage Write API with Google's own client, for comparison: what examples/append_arrow.rs does, from the same rows.

Run by bench.py with a Python that has google-cloud-bigquery-storage and pyarrow. Prints what it took as JSON, in the same names.
"""

import argparse
import collections
import json
import resource
import time

import grpc
import pyarrow
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient, types
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport
from google.cloud.bigquery_storage_v1.writer import AppendRowsStream

TABLE = "projects/bench/datasets/bench/tables/orders"
# The API takes requests of 10 MB.
REQUEST_BYTES = 9_500_000
# As much as Longshore has on its way. Google's samples send without a bound, which takes the memory of all that is sent.
IN_FLIGHT_BYTES = 4 * REQUEST_BYTES


def connect(server, certificate):
    address = server.split("://")[1]
    if not server.startswith("https://"):
        return grpc.insecure_channel(address)
    with open(certificate, "rb") as f:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(f.read()))


def cut(batch):
    """The messages of a batch, each with its rows."""
    message = batch.serialize().to_pybytes()
    if len(message) <= REQUEST_BYTES:
        yield batch.num_rows, message
        return
    half = batch.num_rows // 2
    yield from cut(batch.slice(0, half))
    yield from cut(batch.slice(half))


class Sender:
    """Sends messages in order, with a bound on what is unanswered."""

    def __init__(self, client, schema):
        wanted = types.WriteStream(type_=types.WriteStream.Type.PENDING)
        self.client = client
        self.name = client.create_write_stream(parent=TABLE, write_stream=wanted).name
        template = types.AppendRowsRequest(write_stream=self.name)
        template.arrow_rows.writer_schema.serialized_schema = schema.serialize().to_pybytes()
        self.stream = AppendRowsStream(client, template)
        self.unanswered = collections.deque()
        self.in_flight = self.offset = self.sent_bytes = 0

    def send(self, rows, message):
        request = types.AppendRowsRequest(offset=self.offset)
        request.arrow_rows.rows.serialized_record_batch = message
        self.unanswered.append((len(message), self.stream.send(request)))
        self.offset += rows
        self.in_flight += len(message)
        self.sent_bytes += len(message)
        while self.in_flight > IN_FLIGHT_BYTES:
            self.take_answer()

    def take_answer(self):
        size, future = self.unanswered.popleft()
        # `result` looks once in a second or less often: waiting by it would make the client slower than it is.
        while not future.done():
            time.sleep(0.0005)
        future.result()
        self.in_flight -= size

    def finish(self):
        while self.unanswered:
            self.take_answer()
        self.stream.close()
        held = self.client.finalize_write_stream(name=self.name).row_count
        if held != self.offset:
            raise SystemExit(f"a stream of {self.offset} rows holds {held}")


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--certificate", help="the server's own, for https")
    parser.add_argument("--pool", required=True, help="the rows, as an Arrow stream; sent over and over")
    parser.add_argument("--batches", required=True, type=int)
    options = parser.parse_args()
    with pyarrow.ipc.open_stream(options.pool) as reader:
        pool = list(reader)
    transport = BigQueryWriteGrpcTransport(channel=connect(options.server, options.certificate))
    client = BigQueryWriteClient(transport=transport)
    wall, cpu = time.perf_counter(), cpu_seconds()
    sender = Sender(client, pool[0].schema)
    for i in range(options.batches):
        for rows, message in cut(pool[i % len(pool)]):
            sender.send(rows, message)
    sender.finish()
    print(json.dumps({
        "rows": sender.offset, "sent_bytes": sender.sent_bytes, "wall_seconds": time.perf_counter() - wall,
        "cpu_seconds": cpu_seconds() - cpu, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }))


if __name__ == "__main__":
    main()
