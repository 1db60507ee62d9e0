# What the module makes, without a cloud: `terraform init && terraform test`.

mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = {
      email  = "harbour-longshore@acme-test.iam.gserviceaccount.com"
      member = "serviceAccount:harbour-longshore@acme-test.iam.gserviceaccount.com"
    }
  }
}

variables {
  project          = "acme-test"
  name             = "harbour-mail"
  dataset_location = "EU"
  schemas          = "./tests/schemas"
}

run "each_schema_file_is_a_table" {
  assert {
    condition     = tolist(output.tables) == tolist(["berths", "ships"])
    error_message = "tables: ${join(", ", output.tables)}"
  }
  assert {
    condition     = jsondecode(google_bigquery_table.landing["ships"].schema)[1].name == "built"
    error_message = google_bigquery_table.landing["ships"].schema
  }
  assert {
    condition     = alltrue([for table in google_bigquery_table.landing : table.deletion_protection])
    error_message = "a table can be removed"
  }
}

run "a_file_more_is_a_table_more" {
  variables {
    schemas = "../../schemas"
  }
  assert {
    condition     = length(output.tables) == length(fileset("../../schemas", "*.json"))
    error_message = "tables: ${join(", ", output.tables)}"
  }
}

run "names_are_those_that_each_service_takes" {
  assert {
    condition     = output.dataset == "harbour_mail" && google_service_account.longshore.account_id == "harbour-mail-longshore"
    error_message = "${output.dataset}, ${google_service_account.longshore.account_id}"
  }
}

run "messages_wait_for_whoever_reads_them" {
  assert {
    condition     = google_pubsub_subscription.messages.enable_exactly_once_delivery && google_pubsub_subscription.messages.expiration_policy[0].ttl == ""
    error_message = "the subscription expires, or does not confirm acknowledgements"
  }
  assert {
    condition     = google_pubsub_subscription.dead_letters.topic == google_pubsub_topic.dead_letters.id && google_pubsub_subscription.dead_letters.expiration_policy[0].ttl == ""
    error_message = "dead letters are lost"
  }
}

run "roles_are_on_what_they_are_for" {
  variables {
    staging_bucket = true
  }
  assert {
    condition = toset([
      google_pubsub_subscription_iam_member.subscriber.role, google_pubsub_subscription_iam_member.viewer.role,
      google_pubsub_topic_iam_member.dead_letters.role, google_bigquery_dataset_iam_member.editor.role,
    ]) == toset(["roles/pubsub.subscriber", "roles/pubsub.viewer", "roles/pubsub.publisher", "roles/bigquery.dataEditor"])
    error_message = "other roles"
  }
  assert {
    condition     = google_project_iam_member.jobs.role == "roles/bigquery.jobUser"
    error_message = "the one role on the project: ${google_project_iam_member.jobs.role}"
  }
  assert {
    condition     = length(google_storage_bucket_iam_member.staging) == 2 && output.staging == "gs://acme-test-harbour-mail-staging/longshore"
    error_message = "the bucket for load jobs"
  }
}

run "partitions_and_order_are_by_table" {
  variables {
    tables = {
      ships = { partition_by = "built", partition_unit = "YEAR", partition_expiration_days = 10, cluster_by = ["ship"] }
    }
  }
  assert {
    condition     = google_bigquery_table.landing["ships"].time_partitioning[0].expiration_ms == 864000000 && google_bigquery_table.landing["ships"].clustering == tolist(["ship"])
    error_message = "ships is not as it is said"
  }
  assert {
    condition     = length(google_bigquery_table.landing["berths"].time_partitioning) == 0
    error_message = "berths has partitions"
  }
}

run "a_table_without_a_schema_file_is_refused" {
  command = plan
  variables {
    tables = { boats = {} }
  }
  expect_failures = [google_bigquery_dataset.landing]
}

run "tables_of_longshores_own_are_refused" {
  command = plan
  variables {
    schemas = "./tests/reserved"
  }
  expect_failures = [google_bigquery_dataset.landing]
}

run "a_folder_without_schemas_is_refused" {
  command = plan
  variables {
    schemas = "./tests/nothing"
  }
  expect_failures = [google_bigquery_dataset.landing]
}

run "names_that_a_service_would_refuse_are_refused" {
  command = plan
  variables {
    name              = "harbour_mail"
    project           = "Acme"
    dataset_location  = "europe-north1-b"
    message_retention = "7d"
  }
  expect_failures = [var.name, var.project, var.dataset_location, var.message_retention]
}
