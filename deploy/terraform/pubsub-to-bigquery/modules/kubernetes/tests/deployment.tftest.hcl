# What the module makes, without a cluster: `terraform init && terraform test`.

mock_provider "google" {}
mock_provider "kubernetes" {}

variables {
  project                = "acme-test"
  cluster_project        = "acme-clusters"
  namespace              = "longshore"
  name                   = "harbour"
  image                  = "europe-north1-docker.pkg.dev/acme-test/longshore/longshore:0.1.0"
  pipeline               = "pipeline: harbour"
  service_account        = "harbour-longshore@acme-test.iam.gserviceaccount.com"
  store_url              = "postgres://longshore@10.0.0.3:5432/longshore?sslmode=verify-ca"
  store_certificate      = "a certificate"
  store_password         = "not kept"
  store_password_version = 1
}

run "the_pods_account_acts_as_the_service_account" {
  assert {
    condition     = google_service_account_iam_member.pods.member == "serviceAccount:acme-clusters.svc.id.goog[longshore/harbour-longshore]"
    error_message = google_service_account_iam_member.pods.member
  }
}

run "one_pod_at_a_time_goes" {
  assert {
    condition     = kubernetes_deployment_v1.longshore.spec[0].replicas == "2" && kubernetes_pod_disruption_budget_v1.longshore.spec[0].max_unavailable == "1"
    error_message = "all pods may go at once"
  }
  assert {
    condition     = kubernetes_deployment_v1.longshore.spec[0].selector[0].match_labels == kubernetes_pod_disruption_budget_v1.longshore.spec[0].selector[0].match_labels
    error_message = "the budget is for other pods"
  }
  # Longshore's own grace is 30 seconds.
  assert {
    condition     = kubernetes_deployment_v1.longshore.spec[0].template[0].spec[0].termination_grace_period_seconds > 30
    error_message = "pods are killed before they are done"
  }
}

run "another_password_replaces_the_pods" {
  variables {
    store_password_version = 2
  }
  assert {
    condition     = kubernetes_deployment_v1.longshore.spec[0].template[0].metadata[0].annotations["longshore/password-version"] == "2"
    error_message = "the pods keep the old password"
  }
}

run "an_image_that_moves_is_refused" {
  command = plan
  variables {
    image = "longshore"
  }
  expect_failures = [var.image]
}
