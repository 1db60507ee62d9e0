# The topic, the subscription that Longshore reads, and the topic where copies of dead letters go.

locals {
  dead_letters = "${var.name}-dead-letters"
}

resource "google_pubsub_topic" "messages" {
  project = var.project
  name    = var.name
  labels  = var.labels

  dynamic "message_storage_policy" {
    for_each = length(var.storage_regions) > 0 ? [var.storage_regions] : []
    content {
      allowed_persistence_regions = message_storage_policy.value
    }
  }
}

# Pub/Sub's own dead letter policy is left out on purpose: it counts deliveries, not reasons, and would take away messages that only wait for
# a table. Longshore puts aside what does not fit, with the reason, and acknowledges it.
resource "google_pubsub_subscription" "messages" {
  project = var.project
  name    = var.name
  topic   = google_pubsub_topic.messages.id
  labels  = var.labels

  enable_exactly_once_delivery = var.exactly_once_delivery
  enable_message_ordering      = var.message_ordering
  ack_deadline_seconds         = 60
  message_retention_duration   = var.message_retention

  # It stays, however long nobody reads it.
  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_topic" "dead_letters" {
  project = var.project
  name    = local.dead_letters
  labels  = var.labels

  dynamic "message_storage_policy" {
    for_each = length(var.storage_regions) > 0 ? [var.storage_regions] : []
    content {
      allowed_persistence_regions = message_storage_policy.value
    }
  }
}

# What is published to a topic without a subscription is lost.
resource "google_pubsub_subscription" "dead_letters" {
  project = var.project
  name    = local.dead_letters
  topic   = google_pubsub_topic.dead_letters.id
  labels  = var.labels

  ack_deadline_seconds       = 60
  message_retention_duration = var.dead_letter_retention

  expiration_policy {
    ttl = ""
  }
}
