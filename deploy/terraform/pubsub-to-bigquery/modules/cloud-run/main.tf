# Longshore on Cloud Run: a number of instances that run all the time. They share the subscription and the store; each message lands once.

locals {
  member = "serviceAccount:${var.service_account}"
  port   = 8650

  environment = merge(var.environment, {
    LONGSHORE_HOME = var.store.url
    LONGSHORE_JSON = "true"
    PGSSLROOTCERT  = var.store.certificate
  })
}

# The pipeline file. It holds no secret; a secret is how Cloud Run puts a file into a container.
resource "google_secret_manager_secret" "pipeline" {
  project   = var.project
  secret_id = "${var.name}-longshore-pipeline"
  labels    = var.labels

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }
}

resource "google_secret_manager_secret_version" "pipeline" {
  secret      = google_secret_manager_secret.pipeline.id
  secret_data = var.pipeline
  # The revision before this one is still there to go back to.
  deletion_policy = "ABANDON"

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = { pipeline = google_secret_manager_secret.pipeline.id, password = var.store.password_secret }

  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = local.member
}

resource "google_cloud_run_v2_service" "longshore" {
  project             = var.project
  name                = "${var.name}-longshore"
  location            = var.region
  labels              = var.labels
  deletion_protection = var.deletion_protection

  # Nobody calls it: it has no address, and no one is allowed to.
  ingress              = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  default_uri_disabled = true

  scaling {
    scaling_mode          = "MANUAL"
    manual_instance_count = var.replicas
  }

  template {
    service_account       = var.service_account
    execution_environment = "EXECUTION_ENVIRONMENT_GEN2"

    # Only what is private goes through the network: the store.
    vpc_access {
      egress = "PRIVATE_RANGES_ONLY"
      network_interfaces {
        network    = var.network
        subnetwork = var.subnetwork
      }
    }

    containers {
      name  = "longshore"
      image = var.image
      args  = ["serve", "/etc/longshore/pipelines", "--listen", "0.0.0.0:${local.port}"]

      resources {
        limits = {
          cpu    = var.cpu
          memory = var.memory
        }
        # Longshore works without being called, so it has its processor all the time.
        cpu_idle = false
      }

      ports {
        container_port = local.port
      }

      # A revision whose pipeline cannot start does not take the place of one that works.
      startup_probe {
        http_get {
          path = "/readyz"
          port = local.port
        }
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 24
      }

      liveness_probe {
        http_get {
          path = "/healthz"
          port = local.port
        }
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 3
      }

      dynamic "env" {
        for_each = local.environment
        content {
          name  = env.key
          value = env.value
        }
      }

      env {
        name = "PGPASSWORD"
        value_source {
          secret_key_ref {
            secret  = var.store.password_secret
            version = var.store.password_secret_version
          }
        }
      }

      volume_mounts {
        name       = "pipeline"
        mount_path = "/etc/longshore/pipelines"
      }
    }

    dynamic "containers" {
      for_each = var.metrics_image == null ? [] : [var.metrics_image]
      content {
        name       = "metrics"
        image      = containers.value
        depends_on = ["longshore"]

        resources {
          limits = {
            cpu    = "1"
            memory = "512Mi"
          }
          cpu_idle = false
        }

        volume_mounts {
          name       = "metrics"
          mount_path = "/etc/rungmp"
        }
      }
    }

    volumes {
      name = "pipeline"
      secret {
        secret = google_secret_manager_secret.pipeline.secret_id
        items {
          path    = "pipeline.yaml"
          version = google_secret_manager_secret_version.pipeline.version
        }
      }
    }

    dynamic "volumes" {
      for_each = google_secret_manager_secret_version.metrics
      content {
        name = "metrics"
        secret {
          secret = google_secret_manager_secret.metrics[0].secret_id
          items {
            path    = "config.yaml"
            version = volumes.value.version
          }
        }
      }
    }
  }

  depends_on = [google_secret_manager_secret_iam_member.reader, google_secret_manager_secret_iam_member.metrics]
}
