# Longshore's own metrics (`/metrics`: rows, dead letters, lag and delay by table), sent to Cloud Monitoring by Google's collector beside it.

locals {
  metrics = var.metrics_image == null ? 0 : 1
}

resource "google_secret_manager_secret" "metrics" {
  count = local.metrics

  project   = var.project
  secret_id = "${var.name}-longshore-metrics"
  labels    = var.labels

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }
}

resource "google_secret_manager_secret_version" "metrics" {
  count = local.metrics

  secret          = google_secret_manager_secret.metrics[0].id
  deletion_policy = "ABANDON"
  secret_data = yamlencode({
    apiVersion = "monitoring.googleapis.com/v1beta"
    kind       = "RunMonitoring"
    metadata   = { name = "${var.name}-longshore" }
    spec       = { endpoints = [{ port = local.port, path = "/metrics", interval = "30s" }] }
  })

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_secret_manager_secret_iam_member" "metrics" {
  count = local.metrics

  secret_id = google_secret_manager_secret.metrics[0].id
  role      = "roles/secretmanager.secretAccessor"
  member    = local.member
}

# Time series belong to the project and to nothing smaller.
resource "google_project_iam_member" "metrics" {
  count = local.metrics

  project = var.project
  role    = "roles/monitoring.metricWriter"
  member  = local.member
}
