# Longshore on a GKE cluster with workload identity: a number of pods that share the subscription and the store.

locals {
  labels = { "app.kubernetes.io/name" = "longshore", "app.kubernetes.io/instance" = var.name }
  port   = 8650
}

# The pods' own account acts as the service account, without any key.
resource "google_service_account_iam_member" "pods" {
  service_account_id = "projects/${var.project}/serviceAccounts/${var.service_account}"
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.cluster_project}.svc.id.goog[${var.namespace}/${kubernetes_service_account_v1.longshore.metadata[0].name}]"
}

resource "kubernetes_service_account_v1" "longshore" {
  metadata {
    name        = "${var.name}-longshore"
    namespace   = var.namespace
    labels      = local.labels
    annotations = { "iam.gke.io/gcp-service-account" = var.service_account }
  }
  # Who Longshore is in the cluster is of no use to it.
  automount_service_account_token = false
}

# A changed pipeline is picked up within a minute or so; no pod is replaced.
resource "kubernetes_config_map_v1" "pipeline" {
  metadata {
    name      = "${var.name}-longshore"
    namespace = var.namespace
    labels    = local.labels
  }
  data = { "pipeline.yaml" = var.pipeline }
}

resource "kubernetes_secret_v1" "store" {
  metadata {
    name      = "${var.name}-longshore-store"
    namespace = var.namespace
    labels    = local.labels
  }
  # Written and not kept in Terraform's state.
  data_wo          = { PGPASSWORD = var.store_password }
  data_wo_revision = var.store_password_version
}

# Pods that are not ready should not hold up a node that is to be emptied (`unhealthyPodEvictionPolicy: AlwaysAllow`), but this resource has no
# such field, and `kubernetes_manifest` has to reach the cluster as soon as it plans. The README has the command that sets it.
resource "kubernetes_pod_disruption_budget_v1" "longshore" {
  metadata {
    name      = "${var.name}-longshore"
    namespace = var.namespace
    labels    = local.labels
  }
  spec {
    max_unavailable = "1"
    selector {
      match_labels = local.labels
    }
  }
}
