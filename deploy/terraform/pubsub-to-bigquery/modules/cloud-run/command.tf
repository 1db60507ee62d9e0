# Any other command of Longshore's, with the same pipeline, store and account:
#
#   gcloud run jobs execute NAME-longshore --region REGION --wait --args=dead-letters,list
#
# What it says is in the job's log.

resource "google_cloud_run_v2_job" "command" {
  project             = var.project
  name                = "${var.name}-longshore"
  location            = var.region
  labels              = var.labels
  deletion_protection = false

  template {
    template {
      service_account = var.service_account
      max_retries     = 0
      timeout         = "3600s"

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
        args  = ["check", "/etc/longshore/pipelines/pipeline.yaml"]

        resources {
          limits = {
            cpu    = var.cpu
            memory = var.memory
          }
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
    }
  }

  depends_on = [google_secret_manager_secret_iam_member.reader]
}
