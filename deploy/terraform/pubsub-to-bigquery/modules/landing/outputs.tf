output "topic" {
  description = "The topic to publish to, in full."
  value       = google_pubsub_topic.messages.id
}

output "subscription" {
  description = "The subscription that Longshore reads, in full."
  value       = google_pubsub_subscription.messages.id
}

output "dead_letter_topic" {
  description = "Where copies of dead letters go, in full."
  value       = google_pubsub_topic.dead_letters.id
}

output "dead_letter_subscription" {
  description = "The subscription that keeps them, in full."
  value       = google_pubsub_subscription.dead_letters.id
}

output "dataset" {
  description = "The dataset's id."
  value       = google_bigquery_dataset.landing.dataset_id
}

output "tables" {
  description = "The tables, by name."
  value       = sort(keys(google_bigquery_table.landing))
}

output "staging" {
  description = "The folder for load jobs, as the setting `staging` takes it; null without a bucket."
  value       = one([for bucket in google_storage_bucket.staging : "gs://${bucket.name}/longshore"])
}

output "service_account" {
  description = "Longshore's service account, by its address."
  value       = google_service_account.longshore.email
  # Who is told this may rely on what the account may do.
  depends_on = [
    google_pubsub_subscription_iam_member.subscriber,
    google_pubsub_topic_iam_member.dead_letters,
    google_bigquery_dataset_iam_member.editor,
    google_project_iam_member.jobs,
  ]
}
