//! The codes of a server.

longshore_core::codes! {
    SCHEDULE_INVALID = "schedule_invalid": "A `schedule` of a pipeline file cannot be used: its `cron` has not five fields (minute, hour, day of the month, month, day of the week) or six (with seconds before them), a field is out of its range, or no time ever fits.";
    TIME_ZONE_UNKNOWN = "time_zone_unknown": "The `time_zone` of a `schedule` is not in the list of IANA, which names zones like `Europe/Oslo` or `UTC`.";
    PIPELINE_TWICE = "pipeline_twice": "Two files of the folder that `longshore serve` runs have the same pipeline name. The name is the pipeline's identity in the store, so only one of them is run: the one that ran first. Give the other a name of its own.";
    LISTEN_FAILED = "listen_failed": "`longshore serve` cannot listen at this address: something else listens there, or it is no address of this machine. `--listen ADDRESS:PORT` names another; port 0 takes a free one.";
    PIPELINE_PANICKED = "pipeline_panicked": "The run of a pipeline hit a fault of ours and was ended; other pipelines go on. What was journalled is published by the next run, the rest is read again. Please report it with the lines that stderr has about it.";
    SOURCE_ENDED = "source_ended": "A source that never ends has ended. It is read again from where the journal says.";
}
