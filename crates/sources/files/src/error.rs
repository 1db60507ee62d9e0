//! The codes of what can be wrong with a file or one of its records.

use longshore_core::codes;

codes! {
    FILE_UNREADABLE = "file_unreadable": "The file as a whole cannot be read: it is damaged, cut off, or not of its format. None of its records landed. Correct it and load it again.";
    SPILL_FAILED = "spill_failed": "The bytes of a record that is too large for memory could not be written to the folder for temporary files. Free some space there, or raise `--memory`.";
    ENCODING_INVALID = "encoding_invalid": "The record holds bytes that are not text in UTF-8. Convert the file, for example with `iconv`, and load it again.";
    JSON_INVALID = "json_invalid": "The record is not valid JSON. The reason names the line and column of the first character that does not belong there. Correct the record and replay it.";
    NOT_AN_OBJECT = "not_an_object": "The record is valid JSON but not an object, so it has no columns. If the objects are further inside the document, point at them with `--records NAME=/POINTER`.";
    DUPLICATE_KEY = "duplicate_key": "An object of the record names a key twice, so it cannot be told which value counts. Remove one and replay the record.";
    ROW_TOO_SHORT = "row_too_short": "The row has fewer values than there are columns. If the missing ones are meant to be NULL, load with `--csv-jagged fill`.";
    ROW_TOO_LONG = "row_too_long": "The row has more values than there are columns. Often a text that holds the delimiter lacks its quotes.";
    UNCLOSED_QUOTE = "unclosed_quote": "A quoted value begins on this line and its closing quote is missing. The line is the dead letter; the next line was decoded as usual.";
    QUOTE_MISPLACED = "quote_misplaced": "Text follows the closing quote of a value. A quote inside a quoted value is written twice.";
}
