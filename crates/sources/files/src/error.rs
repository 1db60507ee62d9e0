//! The codes of what can be wrong with a file or one of its records.

use longshore_core::codes;

codes! {
    FILE_UNREADABLE = "file_unreadable": "The file as a whole cannot be read: it is damaged, cut off, or not of its format. None of its records landed. Correct it and load it again.";
    SPILL_FAILED = "spill_failed": "The bytes of a record that is too large for memory could not be written to the folder for temporary files. Free some space there, or raise `--memory`.";
    ENCODING_INVALID = "encoding_invalid": "The record holds bytes that are not text in UTF-8. Convert the file, for example with `iconv`, and load it again.";
    TOO_MANY_COLUMNS = "too_many_columns": "The records have more different columns than a table can hold (10,000). Usually some keys are data rather than names: load the object that holds them as one column with `--type COLUMN=JSON`.";
    JSON_INVALID = "json_invalid": "The record is not valid JSON. The reason names the line and column of the first character that does not belong there. Correct the record and replay it.";
    NOT_AN_OBJECT = "not_an_object": "The record is valid JSON but not an object, so it has no columns. If the objects are further inside the document, point at them with `--records NAME=/POINTER`.";
    DUPLICATE_KEY = "duplicate_key": "An object of the record names a key twice, so it cannot be told which value counts. Remove one and replay the record.";
    ROW_TOO_SHORT = "row_too_short": "The row has fewer values than there are columns. If the missing ones are meant to be NULL, load with `--csv-jagged fill`.";
    ROW_TOO_LONG = "row_too_long": "The row has more values than there are columns. Often a text that holds the delimiter lacks its quotes.";
    UNCLOSED_QUOTE = "unclosed_quote": "A quoted value begins on this line and its closing quote is missing. The line is the dead letter; the next line was decoded as usual.";
    QUOTE_MISPLACED = "quote_misplaced": "Text follows the closing quote of a value. A quote inside a quoted value is written twice.";
    XML_INVALID = "xml_invalid": "The file is not well-formed XML: a tag is not closed, closed twice or out of order, or something stands outside of the one root element. The place names the first byte that does not belong there. Since it cannot be told which records are whole, none of them landed. Correct the file and load it again.";
    XML_RECORD_INVALID = "xml_record_invalid": "A tag inside the record is not valid XML, for example an attribute without quotes or one that stands twice. The reason names line and column. Correct the record and replay it.";
    XML_TOO_DEEP = "xml_too_deep": "The elements of the record are nested deeper than a value can be. Records begin too far up: name a deeper path with `--records NAME=/PATH`.";
    XML_ENTITY_UNKNOWN = "xml_entity_unknown": "A reference such as `&name;` stands for nothing that the document declares, or for markup. A bare `&` in text is written `&amp;`. Correct the record and replay it.";
    XML_EXTERNAL_ENTITY = "xml_external_entity": "The record uses an entity whose text stands outside of the document, in a file or at an address. Such entities are never fetched. Put the text into the record and replay it.";
    XML_ENTITY_LIMIT = "xml_entity_limit": "The entities in the record expand to far more text than the record is long, or refer to one another without end. This is how XML bombs work, so the expansion was stopped.";
    FILE_MISSING = "file_missing": "A file that was named does not exist. Nothing was loaded. Check the path; a pattern such as `data/*.xml` may match nothing, a name may not.";
    FILE_DENIED = "file_denied": "A file or folder could not be opened, listed or read. The message underneath is the system's own. Nothing of it landed.";
    FILE_CHANGED = "file_changed": "The file was changed, replaced or removed while it was read. What had been read of it was given up, so that rows of two versions do not mix. The next run reads it anew.";
    COMPRESSION_BROKEN = "compression_broken": "The compressed file ends early or is damaged, usually because a transfer was cut off. None of its records landed. Get it again and load it.";
    ENCODING_UNKNOWN = "encoding_unknown": "The file declares an encoding that is not known. Convert it to UTF-8, for example with `iconv`, and load it again.";
    RECORD_PATHS_NEST = "record_paths_nest": "Two of the record paths lie within one another or are the same, so that a record would belong to two tables. Name the outer one; what repeats inside of it becomes an ARRAY.";
    FILE_REJECTED = "file_rejected": "A record of the file does not fit, and `on_bad_record: reject-file` turns the whole file away. The reason names the first such record. Correct the file and load it again.";
    AFTER_LOAD_FAILED = "after_load_failed": "A file that has landed, or was refused, could not be moved or deleted. Its rows are safe; the next run tries again. Check the permissions and the space of the folder.";
}
