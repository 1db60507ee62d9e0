//! Changes by key: the rows as they are now, every change as a row, or both.

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use longshore_core::Result;
use longshore_core::batch::{Batch, Changes, Chunk, Item, Operation, Rows};
use longshore_core::position::{Covers, Delta, Partition, Position};
use longshore_core::schema::{Field, TableSchema, Type};
use longshore_core::source::{Context, Description, Source, Split, Splits, Target};
use longshore_core::store::{FileLedger, Store};
use longshore_engine::Keep;
use serde_json::{Value, json};

use super::*;

/// Key, value (none deletes) and order.
type Change = (i64, Option<&'static str>, &'static str);

/// Changes of one table that come in one partition.
struct Changing {
    store: MemoryStore,
    changes: Vec<Change>,
}

fn schema() -> TableSchema {
    TableSchema::new(vec![Field::new("id", Type::Int64), Field::new("name", Type::String)])
}

fn partition() -> Partition {
    Partition("changes".into())
}

#[async_trait]
impl Source for Changing {
    async fn splits(&self, cx: &Context, _: &dyn FileLedger) -> Result<Splits> {
        let position = self.store.position(&cx.pipeline, &partition()).await?;
        let from: usize = position.map_or(0, |position| position.0.parse().expect("a count"));
        let split = Split { name: "changes".into(), bytes: 1, payload: json!(from) };
        Ok(Splits { splits: Vec::from_iter((from < self.changes.len()).then_some(split)), skipped: Vec::new() })
    }

    async fn describe(&self, _: &Context, splits: Vec<Split>, _: &dyn FileLedger) -> Result<Description> {
        let (tables, keys) = ([("t".to_owned(), schema())].into(), [("t".to_owned(), vec!["id".to_owned()])].into());
        Ok(Description { tables, keys, splits, ..Description::default() })
    }

    async fn read(
        &self,
        _: &Context,
        split: &Split,
        targets: &BTreeMap<String, Target>,
    ) -> Result<BoxStream<'static, Result<Item>>> {
        assert_eq!(targets["t"].schema, schema(), "records are decoded into their own columns");
        let from = split.payload.as_u64().and_then(|from| usize::try_from(from).ok()).expect("a count");
        let new = self.changes[from..].to_vec();
        let ids = arrow::array::Int64Array::from_iter_values(new.iter().map(|(id, _, _)| *id));
        let names = arrow::array::StringArray::from_iter(new.iter().map(|(_, name, _)| *name));
        let rows = arrow::array::RecordBatch::try_new(schema().to_arrow(), vec![Arc::new(ids), Arc::new(names)]).expect("rows");
        let operation = |name: &Option<&str>| if name.is_some() { Operation::Upsert } else { Operation::Delete };
        let changes = Changes {
            rows,
            operations: new.iter().map(|(_, name, _)| operation(name)).collect(),
            order: new.iter().map(|(_, _, order)| (*order).to_owned()).collect(),
        };
        let batch = Batch { table: "t".into(), rows: Rows::Changes(changes), rejects: Vec::new() };
        let chunk = Chunk { bytes: 1, decode: Box::new(move || Ok(vec![batch])), covers: Some(self.covers(split)), permit: None };
        Ok(futures::stream::iter([Ok(Item::Chunk(chunk))]).boxed())
    }

    async fn acknowledge(&self, _: &Context, _: &Value) -> Result<()> {
        Ok(())
    }

    fn covers(&self, split: &Split) -> Covers {
        let from = split.payload.as_u64().filter(|from| *from > 0).map(Position::from_count);
        Covers::Deltas(vec![Delta { partition: partition(), from, to: Position::from_count(self.changes.len() as u64) }])
    }
}

async fn run(destination: &MemoryDestination, store: &MemoryStore, keep: Keep, changes: &[Change]) -> Outcome {
    let source = Arc::new(Changing { store: store.clone(), changes: changes.to_vec() });
    let pipeline = Pipeline { changes: [("*".to_owned(), keep)].into(), ..World::pipeline() };
    let (store, destination): (Arc<dyn Store>, _) = (Arc::new(store.clone()), Arc::new(destination.clone()));
    longshore_engine::run(store, source, destination, &pipeline, Arc::new(Silent), Stop::default()).await.expect("lands")
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_keep_the_rows_as_they_are_now_or_every_change_or_both() {
    let first = [(1, Some("a"), "1"), (2, Some("b"), "2"), (1, Some("A"), "3")];
    let all = [first.as_slice(), &[(2, None, "4"), (3, Some("c"), "5")]].concat();
    let current = vec![json!({"id": 1, "name": "A"}), json!({"id": 3, "name": "c"})];
    let past = |(id, name, order): &Change| match name {
        Some(name) => json!({"id": id, "name": name, "_operation": "upsert", "_order": order}),
        None => json!({"id": id, "_operation": "delete", "_order": order}),
    };
    let history: Vec<Value> = all.iter().map(past).collect();
    for keep in [Keep::Current, Keep::History, Keep::Both] {
        let (store, destination) = (MemoryStore::new(), MemoryDestination::default());
        run(&destination, &store, keep, &first).await;
        let outcome = run(&destination, &store, keep, &all).await;
        assert_eq!(outcome.summary.tables, [("t".to_owned(), 2)].into(), "a change counts once: {keep:?}");
        let (t, beside) = match keep {
            Keep::Current => (&current, Vec::new()),
            Keep::History => (&history, Vec::new()),
            Keep::Both => (&current, history.clone()),
        };
        assert_eq!((&destination.rows("t"), destination.rows("t_history")), (t, beside), "{keep:?}");
    }
}
