# The dataset, and a table for each schema file.

locals {
  files  = { for file in fileset(var.schemas, "*.json") : file => trimsuffix(trimsuffix(file, ".json"), ".schema") }
  tables = { for file, table in local.files : table => "${var.schemas}/${file}" }
}

resource "google_bigquery_dataset" "landing" {
  project    = var.project
  dataset_id = coalesce(var.dataset, replace(var.name, "-", "_"))
  location   = var.dataset_location
  labels     = var.labels

  # Longshore's own tables (`_longshore`, `_dead_letters`) are in it, too.
  delete_contents_on_destroy = !var.deletion_protection

  lifecycle {
    precondition {
      condition     = length(local.files) > 0
      error_message = "There is no schema file (*.json) in ${var.schemas}."
    }
    precondition {
      condition     = alltrue([for table in values(local.files) : can(regex("^[A-Za-z0-9_-]{1,300}$", table)) && !startswith(table, "_longshore") && table != "_dead_letters"])
      error_message = "The name of a schema file is that of its table: letters, digits, `_` and `-`, and none of Longshore's own (`_longshore...`, `_dead_letters`)."
    }
    precondition {
      condition     = length(setsubtract(keys(var.tables), values(local.files))) == 0
      error_message = "`tables` names tables that have no schema file: ${join(", ", setsubtract(keys(var.tables), values(local.files)))}."
    }
  }
}

resource "google_bigquery_table" "landing" {
  for_each = local.tables

  project             = var.project
  dataset_id          = google_bigquery_dataset.landing.dataset_id
  table_id            = each.key
  schema              = file(each.value)
  labels              = var.labels
  description         = try(var.tables[each.key].description, null)
  clustering          = try(length(var.tables[each.key].cluster_by) > 0, false) ? var.tables[each.key].cluster_by : null
  deletion_protection = var.deletion_protection

  require_partition_filter = try(var.tables[each.key].require_partition_filter, false)

  dynamic "time_partitioning" {
    for_each = try(var.tables[each.key].partition_by, null) == null ? [] : [var.tables[each.key]]
    content {
      type          = time_partitioning.value.partition_unit
      field         = time_partitioning.value.partition_by
      expiration_ms = try(time_partitioning.value.partition_expiration_days * 24 * 60 * 60 * 1000, null)
    }
  }
}
