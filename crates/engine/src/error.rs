//! The codes of the loop itself.

longshore_core::codes! {
    TOO_MANY_DEAD_LETTERS = "too_many_dead_letters": "More records than `--max-dead-letters` allows do not fit, and `--stop-on-max` says to stop then. Nothing of this commit was published; what earlier commits landed stays.";
    TABLE_PARKED = "table_parked": "A table of a journalled commit cannot be published now: it is gone, locked, changed by somebody else, or files that were staged for it are missing. The other tables of the commit are published. Nothing is lost: every run tries again first. `longshore repair DEST` shows what is wrong.";
    ROW_REFUSED = "row_refused": "The destination does not take this row: it breaks a rule that the table has there (a length, a bound, a required column). The reason has the destination's own words; the payload is the row as JSON. Change the table, or correct the row where it comes from and load it again.";
    ROWS_REFUSED = "rows_refused": "The destination refused rows for good after they had been journalled.";
    SCHEMA_CHANGED = "schema_changed": "A source handed over rows in other columns than it was asked for.";
    RESERVED_TABLE = "reserved_table": "The table `_dead_letters` is where Longshore keeps what does not fit. Give the records another table with `--table` or `--records`.";
}
