//! The codes of what can be wrong with a message, its table or its schema.

use longshore_core::codes;

codes! {
    NO_DESTINATION = "no_destination": "The message does not name a table: the attribute, header, key or field that `route` asks for is missing or null. The reason says which. Correct it at the publisher, or replay the message into a table.";
    BAD_DESTINATION = "bad_destination": "What the message names as its table cannot be the name of one: it is empty, not text, longer than 300 characters, has characters that no table takes, or is one of Longshore's own tables.";
    UNKNOWN_TABLE = "unknown_table": "The message is for a table that does not exist. Names match exactly, with case. Create the table (rows arrive in it within seconds) and replay the message, or let tables be made with `create_tables: true`.";
    TABLE_UNWRITABLE = "table_unwritable": "The table of the message takes no rows at present: they may not be written, or it is broken. The reason says why. Mend the table and replay the message; it is tried again after each `parking.after`.";
    TOMBSTONE = "tombstone": "The message has no content. In a topic of changes that deletes the row of its key: set `changes: true` to read it so.";
    NO_KEY = "no_key": "The message is a change by key (`changes: true`) and has no key, so it cannot be told which row it changes.";
    KEY_INVALID = "key_invalid": "The key of the message is not written as it should be, so it cannot be told which row it changes. The reason says what was found.";
    SEVERAL_RECORDS = "several_records": "The message holds several rows. With `format: csv` a message is one row.";
    NO_SCHEMA_ID = "no_schema_id": "The message does not begin with a schema registry's mark, a zero byte and the number of its schema. Its writer does not use the registry, or `format` is not what it writes.";
    UNKNOWN_SCHEMA = "unknown_schema": "The message names a schema that the schema registry does not have: it was deleted there, or belongs to another registry. Once it is there again the message can be replayed.";
    SCHEMA_UNUSABLE = "schema_unusable": "The schema that the message names is of another format than the pipeline's `format`, or cannot be read. The reason says why.";
    AVRO_INVALID = "avro_invalid": "The message is not what its Avro schema describes: it is cut off or damaged, or was written by another schema. The reason names the field.";
    PROTOBUF_INVALID = "protobuf_invalid": "The message is not what its Protocol Buffers schema describes: it is cut off or damaged, or was written by another schema.";
    REGISTRY_UNAVAILABLE = "registry_unavailable": "The schema registry does not answer, so that messages cannot be decoded. Nothing is lost: they stay with the broker and are read once it answers again.";
    REGISTRY_REFUSED = "registry_refused": "The schema registry refuses to be asked. Check `registry.user`, `registry.password` or `registry.token`, and that they may read schemas.";
}
