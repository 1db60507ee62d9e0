//! The Storage Write API as Google documents it, one call at a time, without what the destination makes of it.

use arrow::array::RecordBatch;
use arrow::ipc::writer::StreamWriter;
use futures::StreamExt;
use googleapis_tonic_google_cloud_bigquery_storage_v1::google::cloud::bigquery::storage::v1 as api;
use http::{Extensions, HeaderValue};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use api::append_rows_request::{ArrowData, Rows};
use api::append_rows_response::Response;
use api::big_query_write_client::BigQueryWriteClient;
pub use api::storage_error::StorageErrorCode;
pub use api::write_stream::Type;

use super::Dataset;

/// What an append came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// It is in the stream, at this offset.
    At(Option<i64>),
    /// Some rows are bad, by their index; none of the request is taken.
    Rows(Vec<i64>),
    /// The code and the words of a refusal.
    Refused(i32, String),
}

/// A connection.
pub struct Wire<'a> {
    dataset: &'a Dataset,
    client: BigQueryWriteClient<Channel>,
}

impl<'a> Wire<'a> {
    pub fn of(dataset: &'a Dataset) -> Self {
        let address = dataset.cloud.endpoint(1, "https://bigquerystorage.googleapis.com");
        let mut target = Endpoint::from_shared(address).unwrap();
        if dataset.cloud.is_google() {
            target = target.tls_config(ClientTlsConfig::new().with_native_roots()).unwrap();
        }
        Self { dataset, client: BigQueryWriteClient::new(target.connect_lazy()) }
    }

    fn table(&self, table: &str) -> String {
        format!("projects/{}/datasets/{}/tables/{table}", self.dataset.cloud.project, self.dataset.name)
    }

    async fn request<T>(&self, message: T, routed_by: &str) -> Request<T> {
        let mut headers = self.dataset.cloud.headers().await;
        headers.insert("x-goog-request-params", HeaderValue::from_str(routed_by).unwrap());
        Request::from_parts(MetadataMap::from_headers(headers), Extensions::new(), message)
    }

    /// A new stream. A table that was just made may not be known yet: that is told, and tried again for a while.
    pub async fn create(&self, table: &str, type_: Type) -> String {
        let write_stream = api::WriteStream { r#type: type_ as i32, ..Default::default() };
        let parent = self.table(table);
        for _ in 0..30 {
            let message = api::CreateWriteStreamRequest { parent: parent.clone(), write_stream: Some(write_stream.clone()) };
            let request = self.request(message, &format!("parent={parent}")).await;
            match self.client.clone().create_write_stream(request).await {
                Ok(answer) => return answer.into_inner().name,
                Err(status) if status.code() == tonic::Code::NotFound => {
                    self.dataset.sheet.told("a new table is not known where streams are made", status.message());
                    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
                }
                Err(status) => panic!("CreateWriteStream: {status}"),
            }
        }
        panic!("table {table} was made and is not found by CreateWriteStream")
    }

    /// One request on a connection of its own.
    pub async fn append(&self, stream: &str, offset: Option<i64>, rows: &RecordBatch) -> Appended {
        let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).unwrap();
        let serialized_schema = std::mem::take(writer.get_mut()).into();
        writer.write(rows).unwrap();
        let batch =
            api::ArrowRecordBatch { serialized_record_batch: std::mem::take(writer.get_mut()).into(), ..Default::default() };
        let message = api::AppendRowsRequest {
            write_stream: stream.to_owned(),
            offset,
            rows: Some(Rows::ArrowRows(ArrowData {
                writer_schema: Some(api::ArrowSchema { serialized_schema }),
                rows: Some(batch),
            })),
            ..Default::default()
        };
        let request = self.request(futures::stream::iter([message]), &format!("write_stream={stream}")).await;
        let refused = |status: Status| Appended::Refused(status.code() as i32, status.message().to_owned());
        let mut answers = match self.client.clone().append_rows(request).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return refused(status),
        };
        match answers.next().await.expect("an answer to the request") {
            Err(status) => refused(status),
            Ok(answer) if !answer.row_errors.is_empty() => {
                Appended::Rows(answer.row_errors.iter().map(|error| error.index).collect())
            }
            Ok(answer) => match answer.response {
                Some(Response::AppendResult(result)) => Appended::At(result.offset),
                Some(Response::Error(status)) => Appended::Refused(status.code, status.message),
                None => panic!("an answer that says nothing"),
            },
        }
    }

    /// The offset that the answer tells.
    pub async fn flush(&self, stream: &str, offset: i64) -> Result<i64, Status> {
        let message = api::FlushRowsRequest { write_stream: stream.to_owned(), offset: Some(offset) };
        let request = self.request(message, &format!("write_stream={stream}")).await;
        Ok(self.client.clone().flush_rows(request).await?.into_inner().offset)
    }

    /// The number of rows.
    pub async fn finalize(&self, stream: &str) -> Result<i64, Status> {
        let request = self.request(api::FinalizeWriteStreamRequest { name: stream.to_owned() }, &format!("name={stream}")).await;
        Ok(self.client.clone().finalize_write_stream(request).await?.into_inner().row_count)
    }

    pub async fn commit(&self, table: &str, streams: &[&str]) -> Result<api::BatchCommitWriteStreamsResponse, Status> {
        let parent = self.table(table);
        let write_streams = streams.iter().map(|stream| (*stream).to_owned()).collect();
        let message = api::BatchCommitWriteStreamsRequest { parent: parent.clone(), write_streams };
        let request = self.request(message, &format!("parent={parent}")).await;
        Ok(self.client.clone().batch_commit_write_streams(request).await?.into_inner())
    }

    /// A stream with the table's columns; `None` for the default stream of a table.
    pub async fn get(&self, table: &str, stream: Option<&str>) -> Result<api::WriteStream, Status> {
        let name = stream.map_or_else(|| self.default_stream(table), str::to_owned);
        let message = api::GetWriteStreamRequest { name: name.clone(), view: api::WriteStreamView::Full as i32 };
        let request = self.request(message, &format!("name={name}")).await;
        Ok(self.client.clone().get_write_stream(request).await?.into_inner())
    }

    pub fn default_stream(&self, table: &str) -> String {
        format!("{}/streams/_default", self.table(table))
    }
}
