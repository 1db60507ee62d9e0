//! What can go wrong with Delta tables, and how I/O errors are told apart.

use std::io;

use longshore_core::error::{Error, Kind, Retry, code};

/// The codes of this destination.
pub mod codes {
    longshore_core::codes! {
        SCHEME = "delta_scheme": "The warehouse is not on a local folder. Delta tables in buckets (`gs://`, `s3://`) are not supported yet; give a folder.";
        NAME = "delta_name": "A name cannot be used for a dataset, table or column: it is empty, hidden, holds a separator, or a character that Delta readers refuse (space, comma, semicolon, braces, parentheses, tab, line break, equals sign, quote).";
        NO_PUT_IF_ABSENT = "delta_no_put_if_absent": "The warehouse's file system cannot create a file only if it is absent (hard links are missing, as on exFAT and some network or container mounts). Two writers could overwrite each other's commits there. Choose a folder on a local disk.";
        DISK_FULL = "disk_full": "The disk of the warehouse is full, or a quota is used up. Nothing of the unfinished commit is visible. Make room and run again: what was journalled is published first.";
        NOT_WRITABLE = "delta_not_writable": "The warehouse's folder may not be read or written by this user. Correct its permissions or choose another folder.";
        IO = "delta_io": "A file of the warehouse could not be read or written. The step is tried again; what was journalled is published by the next run.";
        LOG_DAMAGED = "delta_log_damaged": "The log of a Delta table cannot be read: an entry is missing, empty or not JSON. A program that does not sync its files may have lost it in a power cut. Restore the table from a copy, or recreate it.";
        UNSUPPORTED = "delta_table_unsupported": "The table uses a feature of Delta Lake, or a setting, under which appending to it could damage it or make a commit land twice. The message names it. Write to another table, or remove the feature with the program that added it.";
        NOT_EMPTY = "table_not_empty": "The table holds rows, and the run was told to write only into an empty one. Use `--write append` or `--write truncate`.";
        PARTITION = "delta_partition": "The column cannot partition the table: it is missing, is the only column, or has a type that partitions cannot hold exactly. Text partitions cannot hold the empty string, which Delta cannot tell from NULL.";
        VALUE_DOES_NOT_FIT = "delta_value_does_not_fit": "A value cannot be kept exactly in the type that the table has for its column. The table was made by another program with a narrower type than Longshore uses. Nothing was changed. Load into another table, or widen the column with that program.";
        CHANGES = "delta_changes_unsupported": "Rows that update or delete others by key cannot be written to Delta tables yet, only rows to append.";
        NO_COLUMNS = "table_without_columns": "A Delta table needs at least one column, and the records have shown none.";
        MISSING = "delta_table_missing": "The table is gone: its folder or log was removed while it was being written.";
        CHANGED = "delta_table_changed": "The table's columns changed in a way that the rows do not fit, after they were settled. Run again: the rows are decoded anew into the columns that the table has now.";
        PAYLOAD = "delta_committable_unreadable": "The journal holds a record of staged files that this version of Longshore cannot read. Use the version that wrote it, or a newer one.";
        OPTION = "delta_option": "The pipeline file wants something of a table that Delta has no place for (the message names it: it is an option of BigQuery), or names a column that the table does not have. Nothing was made.";
    }
}

/// An error of this destination, which trying again does not cure.
pub(crate) fn destination(code: longshore_core::error::Code, message: impl Into<String>) -> Error {
    Error::new(Kind::Destination, code, message)
}

/// A setting or name that cannot be used.
pub(crate) fn config(code: longshore_core::error::Code, message: impl Into<String>) -> Error {
    Error::new(Kind::Config, code, message)
}

/// A broken assumption of ours.
pub(crate) fn bug(message: impl Into<String>) -> Error {
    Error::new(Kind::Bug, code::BUG, message)
}

/// An I/O error: what was done (`write`), on which path.
pub(crate) fn io(doing: &str, path: &str, error: io::Error) -> Error {
    let message = format!("cannot {doing} {path}");
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge);
    let denied = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
    if full {
        destination(codes::DISK_FULL, message)
            .with_retry(Retry::AfterFix)
            .hint("make room on the disk of the warehouse and run again; nothing of this commit is visible yet")
            .caused_by(error)
    } else if denied {
        destination(codes::NOT_WRITABLE, message)
            .with_retry(Retry::AfterFix)
            .hint("the user that runs this must be able to read and write the warehouse's folder")
            .caused_by(error)
    } else {
        destination(codes::IO, message).with_retry(Retry::Backoff).caused_by(error)
    }
}

/// The first line of a library's error: some print a backtrace into theirs.
pub(crate) fn first_line(error: impl std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
