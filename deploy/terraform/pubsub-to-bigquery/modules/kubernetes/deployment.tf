resource "kubernetes_deployment_v1" "longshore" {
  metadata {
    name      = "${var.name}-longshore"
    namespace = var.namespace
    labels    = local.labels
  }

  spec {
    replicas = var.replicas
    selector {
      match_labels = local.labels
    }
    # All stop before new ones start: two versions of Longshore do not work on one store. Messages wait meanwhile.
    strategy {
      type = "Recreate"
    }

    template {
      metadata {
        labels = local.labels
        annotations = {
          "prometheus.io/scrape"       = "true"
          "prometheus.io/port"         = tostring(local.port)
          "prometheus.io/path"         = "/metrics"
          "longshore/password-version" = tostring(var.store_password_version)
        }
      }

      spec {
        service_account_name            = kubernetes_service_account_v1.longshore.metadata[0].name
        automount_service_account_token = false
        # Longshore commits what is whole when it is told to stop, for at most 30 seconds.
        termination_grace_period_seconds = 60

        security_context {
          run_as_non_root = true
          seccomp_profile {
            type = "RuntimeDefault"
          }
        }

        topology_spread_constraint {
          max_skew           = 1
          topology_key       = "kubernetes.io/hostname"
          when_unsatisfiable = "ScheduleAnyway"
          label_selector {
            match_labels = local.labels
          }
        }

        container {
          name  = "longshore"
          image = var.image
          args  = ["serve", "/etc/longshore/pipelines", "--listen", "0.0.0.0:${local.port}"]

          port {
            name           = "http"
            container_port = local.port
          }

          dynamic "env" {
            for_each = merge(var.environment, {
              LONGSHORE_HOME = var.store_url
              LONGSHORE_JSON = "true"
              PGSSLROOTCERT  = var.store_certificate
            })
            content {
              name  = env.key
              value = env.value
            }
          }

          env {
            name = "PGPASSWORD"
            value_from {
              secret_key_ref {
                name = kubernetes_secret_v1.store.metadata[0].name
                key  = "PGPASSWORD"
              }
            }
          }

          resources {
            requests = { cpu = var.cpu, memory = var.memory }
            limits   = { memory = var.memory }
          }

          startup_probe {
            http_get {
              path = "/healthz"
              port = "http"
            }
            period_seconds    = 5
            failure_threshold = 60
          }

          liveness_probe {
            http_get {
              path = "/healthz"
              port = "http"
            }
            period_seconds    = 10
            timeout_seconds   = 5
            failure_threshold = 3
          }

          readiness_probe {
            http_get {
              path = "/readyz"
              port = "http"
            }
            period_seconds  = 10
            timeout_seconds = 5
          }

          security_context {
            allow_privilege_escalation = false
            read_only_root_filesystem  = true
            capabilities {
              drop = ["ALL"]
            }
          }

          volume_mount {
            name       = "pipeline"
            mount_path = "/etc/longshore/pipelines"
            read_only  = true
          }

          # What may be written: the folder that it works in, for records that are too large for memory, and /tmp.
          volume_mount {
            name       = "work"
            mount_path = "/var/lib/longshore"
          }

          volume_mount {
            name       = "tmp"
            mount_path = "/tmp"
          }
        }

        volume {
          name = "pipeline"
          config_map {
            name = kubernetes_config_map_v1.pipeline.metadata[0].name
          }
        }

        volume {
          name = "work"
          empty_dir {
            size_limit = "2Gi"
          }
        }

        volume {
          name = "tmp"
          empty_dir {
            size_limit = "256Mi"
          }
        }
      }
    }
  }

  depends_on = [google_service_account_iam_member.pods]
}
