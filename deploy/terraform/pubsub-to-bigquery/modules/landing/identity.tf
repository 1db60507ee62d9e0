# Who Longshore is, and what it may do: each role on the smallest thing that it works for. Only `roles/bigquery.jobUser` is the project's,
# because jobs belong to nothing smaller.

locals {
  member = google_service_account.longshore.member
}

resource "google_service_account" "longshore" {
  project      = var.project
  account_id   = "${var.name}-longshore"
  display_name = "Longshore, pipeline ${var.name}"
}

# To read.
resource "google_pubsub_subscription_iam_member" "subscriber" {
  project      = var.project
  subscription = google_pubsub_subscription.messages.name
  role         = "roles/pubsub.subscriber"
  member       = local.member
}

# To look at the subscription's settings, so that `longshore check` tells what is wrong with it.
resource "google_pubsub_subscription_iam_member" "viewer" {
  project      = var.project
  subscription = google_pubsub_subscription.messages.name
  role         = "roles/pubsub.viewer"
  member       = local.member
}

resource "google_pubsub_topic_iam_member" "dead_letters" {
  project = var.project
  topic   = google_pubsub_topic.dead_letters.name
  role    = "roles/pubsub.publisher"
  member  = local.member
}

resource "google_bigquery_dataset_iam_member" "editor" {
  project    = var.project
  dataset_id = google_bigquery_dataset.landing.dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = local.member
}

resource "google_project_iam_member" "jobs" {
  project = var.project
  role    = "roles/bigquery.jobUser"
  member  = local.member
}

# Staging files are written, listed and deleted; where the bucket lies is looked up.
resource "google_storage_bucket_iam_member" "staging" {
  for_each = var.staging_bucket ? toset(["roles/storage.objectAdmin", "roles/storage.legacyBucketReader"]) : toset([])

  bucket = google_storage_bucket.staging[0].name
  role   = each.key
  member = local.member
}

resource "google_pubsub_topic_iam_member" "publishers" {
  for_each = var.publishers

  project = var.project
  topic   = google_pubsub_topic.messages.name
  role    = "roles/pubsub.publisher"
  member  = each.key
}
