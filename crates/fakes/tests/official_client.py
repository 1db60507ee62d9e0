"""Google's own Python clients against the fake: `official_client.py REST_URL GRPC_URL [PROJECT DATASET BUCKET]`.

Needs google-cloud-bigquery, google-cloud-bigquery-storage and pyarrow. Exits with an error if anything is not as it should be.
"""

import datetime
import decimal
import io
import json
import sys
import urllib.request

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient, types
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport
from google.cloud.bigquery_storage_v1.writer import AppendRowsStream
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def check(found, expected, what):
    if found != expected:
        sys.exit(f"{what}: found {found!r}, expected {expected!r}")
    print(f"ok: {what}")


def refused(error, work, what):
    try:
        work()
    except error:
        print(f"ok: {what}")
    else:
        sys.exit(f"{what}: was not refused")


def tables(client, dataset):
    table = bigquery.Table(
        f"{client.project}.{dataset}.people",
        schema=[
            bigquery.SchemaField("id", "INTEGER", mode="REQUIRED"),
            bigquery.SchemaField("name", "STRING"),
            bigquery.SchemaField("at", "TIMESTAMP"),
            bigquery.SchemaField("price", "NUMERIC"),
            bigquery.SchemaField("tags", "STRING", mode="REPEATED"),
            bigquery.SchemaField("home", "RECORD", fields=[bigquery.SchemaField("city", "STRING")]),
        ],
    )
    table.clustering_fields = ["id"]
    table.labels = {"team": "a"}
    made = client.create_table(table)
    check(made.labels, {"team": "a"}, "labels are kept")
    refused(Conflict, lambda: client.create_table(table), "a table is made once")
    made.schema = [*made.schema, bigquery.SchemaField("born", "DATE")]
    check(client.update_table(made, ["schema"]).schema[-1].name, "born", "a column is added")
    check([t.table_id for t in client.list_tables(dataset)], ["people"], "tables are listed")
    check([d.dataset_id for d in client.list_datasets()], [dataset], "datasets are listed")
    refused(NotFound, lambda: client.get_table(f"{client.project}.{dataset}.none"), "no such table")
    return made


def load(client, rest, table, bucket):
    at = datetime.datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc)
    rows = pa.table({
        "id": pa.array([1, 2], pa.int64()),
        "name": pa.array(["a", None]),
        "at": pa.array([at, None], pa.timestamp("us", tz="UTC")),
        "price": pa.array([decimal.Decimal("1.5"), None], pa.decimal128(38, 9)),
    })
    file = io.BytesIO()
    pq.write_table(rows, file)
    put = urllib.request.Request(f"{rest}/{bucket}/in/1.parquet", data=file.getvalue(), method="PUT")
    check(urllib.request.urlopen(put).status, 200, "an object is put")
    config = bigquery.LoadJobConfig(
        source_format="PARQUET", write_disposition="WRITE_APPEND", schema_update_options=["ALLOW_FIELD_RELAXATION"]
    )
    job = client.load_table_from_uri(f"gs://{bucket}/in/*.parquet", table, job_id="load-1", job_config=config)
    check(job.result().output_rows, 2, "a file is loaded")
    again = lambda: client.load_table_from_uri(f"gs://{bucket}/in/1.parquet", table, job_id="load-1", job_config=config)
    refused(Conflict, again, "a job's id is used once")
    missing = client.load_table_from_uri(f"gs://{bucket}/none", table, job_config=config)
    refused(NotFound, missing.result, "a missing object fails the job")
    check(client.get_table(table).num_rows, 2, "the table shows its rows")


def rows(client, table, dataset):
    more = [{"id": 3, "name": "c", "tags": ["x", "y"], "home": {"city": "z"}, "born": "2001-02-03"}]
    check(client.insert_rows_json(table, more, row_ids=["r3"]), [], "a row is streamed in")
    check(client.insert_rows_json(table, more, row_ids=["r3"]), [], "and again")
    errors = client.insert_rows_json(table, [{"id": 4}, {"id": "x"}])
    check([error["errors"][0]["reason"] for error in errors], ["stopped", "invalid"], "bad rows are named")
    found = list(client.query(f"SELECT * FROM `{table.full_table_id.replace(':', '.')}` ORDER BY id").result())
    check(len(found), 3, "a query gives all rows")
    at = datetime.datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc)
    check((found[0].id, found[0].at, found[0].price), (1, at, decimal.Decimal("1.5")), "values of a query")
    check((found[2].tags, found[2].home, found[2].born), (["x", "y"], {"city": "z"}, datetime.date(2001, 2, 3)), "nested values")
    check(sorted(row.id for row in client.list_rows(client.get_table(table))), [1, 2, 3], "rows are listed")
    config = bigquery.QueryJobConfig(query_parameters=[bigquery.ScalarQueryParameter("id", "INT64", 3)])
    found = list(client.query_and_wait(f"SELECT name FROM {dataset}.people WHERE id = @id", job_config=config))
    check([row.name for row in found], ["c"], "a query with a parameter")
    streamed = lambda: client.query(f"DELETE FROM `{dataset}.people` WHERE id = 3").result()
    refused(BadRequest, streamed, "rows in the streaming buffer are not deleted")
    check(client.get_table(table).streaming_buffer.estimated_rows, 1, "the table shows its streaming buffer")
    deleted = client.query(f"DELETE FROM `{dataset}.people` WHERE id = 2")
    deleted.result()
    check(deleted.num_dml_affected_rows, 1, "rows are deleted")
    refused(BadRequest, lambda: client.query("SELECT nothing").result(), "a bad query")


def statements(client, dataset):
    jobs = lambda: sorted(job.job_id for job in client.list_jobs())
    before = jobs()
    config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
    dry = client.query(f"SELECT id, home FROM {dataset}.people", job_config=config)
    check((dry.state, [field.name for field in dry.schema]), ("DONE", ["id", "home"]), "a dry run shows the schema")
    check((dry.dry_run, dry.total_bytes_processed > 0), (True, True), "and what would be read")
    missing = lambda: client.query(f"DELETE FROM {dataset}.none WHERE TRUE", job_config=config)
    refused(NotFound, missing, "a dry run finds a missing table")
    check(jobs(), before, "a dry run leaves no job")

    for name, more in [("stock", ""), ("stock_changes", ", _operation STRING")]:
        columns = f"k INT64 NOT NULL, a STRING, tags ARRAY<STRING>, _order STRING{more}"
        client.query(f"CREATE TABLE IF NOT EXISTS {dataset}.{name} ({columns}) CLUSTER BY k").result()
    client.query(f"INSERT INTO {dataset}.stock (k, a, _order) VALUES (1, 'old', '1'), (2, 'old', '1'), (3, 'old', '3')").result()
    changes = "(1, 'new', '2', 'upsert'), (1, 'newest', '3', 'upsert'), (2, NULL, '2', 'delete'), (3, 'late', '2', 'upsert')"
    columns = "(k, a, _order, _operation)"
    client.query(f"INSERT INTO {dataset}.stock_changes {columns} VALUES {changes}, (4, 'more', '1', 'upsert')").result()
    newer = "(old.`_order` IS NULL OR old.`_order` <= new.`_order`)"
    merge = client.query(f"""
        MERGE `{client.project}.{dataset}.stock` AS old
        USING (SELECT * FROM `{client.project}.{dataset}.stock_changes`
               QUALIFY ROW_NUMBER() OVER (PARTITION BY `k` ORDER BY `_order` DESC) = 1) AS new
        ON old.`k` = new.`k`
        WHEN MATCHED AND {newer} AND new.`_operation` = 'delete' THEN DELETE
        WHEN MATCHED AND {newer} THEN UPDATE SET `a` = new.`a`, `tags` = new.`tags`, `_order` = new.`_order`
        WHEN NOT MATCHED AND new.`_operation` = 'upsert' THEN INSERT (`k`, `a`, `tags`, `_order`)
            VALUES (`k`, `a`, `tags`, `_order`)
    """)
    merge.result()
    stats = merge.dml_stats
    counts = (stats.inserted_row_count, stats.updated_row_count, stats.deleted_row_count)
    check(counts, (1, 1, 1), "a merge tells what it did")
    found = client.query(f"SELECT k, a FROM {dataset}.stock ORDER BY k").result()
    check([tuple(row) for row in found], [(1, "newest"), (3, "old"), (4, "more")], "a merge keeps the newest change of a key")
    twice = f"MERGE {dataset}.stock AS t USING {dataset}.stock_changes AS s ON t.k = s.k WHEN MATCHED THEN UPDATE SET a = s.a"
    refused(BadRequest, lambda: client.query(twice).result(), "a merge with two rows for one is refused")
    client.query(f"ALTER TABLE {dataset}.stock ALTER COLUMN k SET DATA TYPE NUMERIC, SET OPTIONS (description = 'x')").result()
    stock = client.get_table(f"{dataset}.stock")
    check((stock.schema[0].field_type, stock.description), ("NUMERIC", "x"), "a table is altered")
    for name in ["stock", "stock_changes"]:
        client.query(f"DROP TABLE {dataset}.{name}").result()


def bad_records(client, rest, dataset, bucket):
    lines = b'{"n": 1}\n{"n": "x"}\n{"more": 2}\n{"n": 3}\n'
    put = urllib.request.Request(f"{rest}/{bucket}/in/bad.json", data=lines, method="PUT")
    check(urllib.request.urlopen(put).status, 200, "a file with bad rows is put")
    uri, table = f"gs://{bucket}/in/bad.json", f"{client.project}.{dataset}.counted"

    def job(allowed):
        config = bigquery.LoadJobConfig(
            source_format="NEWLINE_DELIMITED_JSON", schema=[bigquery.SchemaField("n", "INTEGER")], max_bad_records=allowed
        )
        return client.load_table_from_uri(uri, table, job_config=config)

    done = job(2)
    done.result()
    check((done.output_rows, len(done.errors), done.error_result), (2, 2, None), "bad rows are left out and told")
    check([error["location"] for error in done.errors], [uri, uri], "with their file")
    check("row starting at position 9: " in done.errors[0]["message"], True, "and their place")
    failed = job(1)
    refused(BadRequest, failed.result, "more bad rows than are allowed fail the job")
    check((failed.error_result["reason"], len(failed.errors)), ("invalid", 3), "with the same list")
    client.delete_table(table)


def permissions(client, table):
    asked = ["bigquery.tables.get", "bigquery.tables.updateData"]
    found = client.test_iam_permissions(table, asked)
    check(found["permissions"], asked, "permissions on a table are told")


def line_message():
    file = descriptor_pb2.FileDescriptorProto(name="line.proto", package="test", syntax="proto2")
    line = file.message_type.add(name="Line")
    line.field.add(name="id", number=1, type=3, label=1)
    line.field.add(name="name", number=2, type=9, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Line")), line


def proto_request(message, line, ids, offset=None):
    data = types.AppendRowsRequest.ProtoData(
        writer_schema=types.ProtoSchema(proto_descriptor=line),
        rows=types.ProtoRows(serialized_rows=[message(id=i, name=f"p{i}").SerializeToString() for i in ids]),
    )
    return types.AppendRowsRequest(proto_rows=data, offset=offset)


def arrow_request(ids, offset=None):
    batch = pa.record_batch({"id": pa.array(ids, pa.int64()), "name": pa.array([f"a{i}" for i in ids])})
    data = types.AppendRowsRequest.ArrowData(
        writer_schema=types.ArrowSchema(serialized_schema=batch.schema.serialize().to_pybytes()),
        rows=types.ArrowRecordBatch(serialized_record_batch=batch.serialize().to_pybytes()),
    )
    return types.AppendRowsRequest(arrow_rows=data, offset=offset)


def streams(client, write, table):
    parent = f"projects/{table.project}/datasets/{table.dataset_id}/tables/{table.table_id}"
    message, line = line_message()
    ids = lambda: sorted(row.id for row in client.list_rows(client.get_table(table)))
    before = ids()

    def append(stream, requests):
        template = types.AppendRowsRequest(write_stream=stream)
        one = requests[0]
        if one.proto_rows.writer_schema:
            template.proto_rows = types.AppendRowsRequest.ProtoData(writer_schema=one.proto_rows.writer_schema)
        else:
            template.arrow_rows = types.AppendRowsRequest.ArrowData(writer_schema=one.arrow_rows.writer_schema)
        connection = AppendRowsStream(write, template)
        futures = [connection.send(request) for request in requests]
        offsets = [future.result().append_result.offset for future in futures]
        connection.close()
        return offsets

    append(f"{parent}/streams/_default", [proto_request(message, line, [10])])
    append(f"{parent}/_default", [arrow_request([11])])
    check(ids(), before + [10, 11], "rows of the default stream, proto and Arrow")

    pending = write.create_write_stream(parent=parent, write_stream=types.WriteStream(type_=types.WriteStream.Type.PENDING))
    check(len(pending.table_schema.fields), 7, "a new stream shows the schema")
    offsets = append(pending.name, [arrow_request([20, 21], 0), arrow_request([22], 2)])
    check(offsets, [0, 2], "offsets of a pending stream")
    check(write.finalize_write_stream(name=pending.name).row_count, 3, "a stream is finalized")
    check(ids(), before + [10, 11], "a pending stream is not seen")
    commit = types.BatchCommitWriteStreamsRequest(parent=parent, write_streams=[pending.name])
    check(write.batch_commit_write_streams(commit).commit_time is not None, True, "a stream is committed")
    check(ids(), before + [10, 11, 20, 21, 22], "and seen")

    buffered = write.create_write_stream(parent=parent, write_stream=types.WriteStream(type_=types.WriteStream.Type.BUFFERED))
    append(buffered.name, [proto_request(message, line, [30, 31], 0)])
    check(write.flush_rows(types.FlushRowsRequest(write_stream=buffered.name, offset=0)).offset, 0, "a row is flushed")
    check(ids()[-1], 30, "and no more than that")
    refused(Exception, lambda: append(buffered.name, [proto_request(message, line, [30], 0)]), "an offset is used once")


def main():
    rest, grpc_url = sys.argv[1:3]
    project, dataset, bucket = (sys.argv[3:] + ["project", "dataset", "bucket"][len(sys.argv) - 3 :])[:3]
    client = bigquery.Client(project=project, credentials=AnonymousCredentials(), client_options={"api_endpoint": rest})
    channel = grpc.insecure_channel(grpc_url.removeprefix("http://"))
    write = BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))
    table = tables(client, dataset)
    load(client, rest, table, bucket)
    rows(client, table, dataset)
    statements(client, dataset)
    bad_records(client, rest, dataset, bucket)
    permissions(client, table)
    streams(client, write, table)
    print(json.dumps({"passed": True}))


if __name__ == "__main__":
    main()
