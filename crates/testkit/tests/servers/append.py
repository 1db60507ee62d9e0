"""Writes rows with Google's own client, as the test beside this says: append.py REST GRPC, each an address of the proxy."""

import queue
import sys

import grpc
import pyarrow as pa
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient, types
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

rest, address = sys.argv[1:]
sql = bigquery.Client("test", AnonymousCredentials(), client_options={"api_endpoint": rest})
sql.create_dataset("appended")
sql.create_table(bigquery.Table("test.appended.t", [bigquery.SchemaField("id", "INT64")]))

channel = grpc.insecure_channel(address.removeprefix("http://"))
client = BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))
kind = types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
stream = client.create_write_stream(parent="projects/test/datasets/appended/tables/t", write_stream=kind).name
schema = pa.schema([("id", pa.int64())])


def request(offset):
    batch = pa.record_batch([[offset]], schema=schema)
    rows = types.AppendRowsRequest.ArrowData(
        writer_schema=types.ArrowSchema(serialized_schema=schema.serialize().to_pybytes()),
        rows=types.ArrowRecordBatch(serialized_record_batch=batch.serialize().to_pybytes()),
    )
    return types.AppendRowsRequest(write_stream=stream, offset=offset, arrow_rows=rows)


def append(offsets):
    """One call; each request is sent when the one before is answered."""
    requests = queue.SimpleQueue()
    requests.put(request(offsets[0]))
    said = []
    try:
        for answer in client.append_rows(iter(requests.get, None)):
            error = answer.error.code
            said.append(f"error {error}" if error else f"ok {answer.append_result.offset}")
            following = offsets[len(said)] if len(said) < len(offsets) else None
            requests.put(None if following is None else request(following))
    except GoogleAPICallError as error:
        requests.put(None)
        said.append(type(error).__name__)
    print("; ".join(said))


append([0, 1, 2])
append([1, 2])
print("rows", list(sql.query_and_wait("select count(*) from appended.t"))[0][0])
