# A bucket for load jobs, if one is asked for. It lies where the dataset does, because BigQuery loads from nowhere else.

resource "google_storage_bucket" "staging" {
  count = var.staging_bucket ? 1 : 0

  project                     = var.project
  name                        = "${var.project}-${var.name}-staging"
  location                    = var.dataset_location
  labels                      = var.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  # Files go as soon as their rows are in the table. This is for what a crash left behind.
  lifecycle_rule {
    condition {
      age = 7
    }
    action {
      type = "Delete"
    }
  }

  # Files of a few minutes need not be kept after they are deleted.
  soft_delete_policy {
    retention_duration_seconds = 0
  }
}
