//! Runs the fake until its standard input ends, for clients in other languages:
//! `cargo run -p longshore-fakes --example bigquery -- PROJECT DATASET BUCKET [ADDRESS]`.

use std::io::Read as _;

use longshore_fakes::bigquery::FakeBigQuery;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (project, dataset, bucket) = (next("project"), next("dataset"), next("bucket"));
    let fake = FakeBigQuery::start_at(&next("127.0.0.1:0")).await;
    fake.create_dataset(&project, &dataset, "US");
    fake.create_bucket(&bucket, "US");
    println!("{{\"rest\": \"{}\", \"grpc\": \"{}\"}}", fake.rest(), fake.grpc());
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    drop((ended, fake));
}
