# What the module makes, without a cloud: `terraform init && terraform test`.

mock_provider "google" {}

variables {
  project         = "acme-test"
  name            = "harbour"
  region          = "europe-north1"
  image           = "europe-north1-docker.pkg.dev/acme-test/longshore/longshore:0.1.0"
  pipeline        = "pipeline: harbour"
  environment     = { DATASET = "harbour" }
  service_account = "harbour-longshore@acme-test.iam.gserviceaccount.com"
  network         = "projects/acme-test/global/networks/harbour"
  subnetwork      = "projects/acme-test/regions/europe-north1/subnetworks/harbour"
  store = {
    url                     = "postgres://longshore@10.0.0.3:5432/longshore?sslmode=verify-ca"
    certificate             = "a certificate"
    password_secret         = "projects/acme-test/secrets/harbour-longshore-store"
    password_secret_version = "1"
  }
}

run "replicas_run_all_the_time_and_nobody_calls_them" {
  assert {
    condition     = google_cloud_run_v2_service.longshore.scaling[0].manual_instance_count == 2 && !google_cloud_run_v2_service.longshore.template[0].containers[0].resources[0].cpu_idle
    error_message = "instances sleep"
  }
  assert {
    condition     = google_cloud_run_v2_service.longshore.ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY" && google_cloud_run_v2_service.longshore.default_uri_disabled
    error_message = "it can be called"
  }
  assert {
    condition = one([
      for env in google_cloud_run_v2_service.longshore.template[0].containers[0].env : env.value if env.name == "LONGSHORE_HOME"
    ]) == "postgres://longshore@10.0.0.3:5432/longshore?sslmode=verify-ca"
    error_message = "the store is somewhere else"
  }
}

run "the_password_is_a_secret_and_no_argument" {
  assert {
    condition = one([
      for env in google_cloud_run_v2_service.longshore.template[0].containers[0].env :
      env.value_source[0].secret_key_ref[0].secret if env.name == "PGPASSWORD"
    ]) == "projects/acme-test/secrets/harbour-longshore-store"
    error_message = "the password is not read from its secret"
  }
}

run "metrics_are_collected_where_that_is_asked_for" {
  variables {
    metrics_image = "example.test/collector:1"
  }
  assert {
    condition     = length(google_cloud_run_v2_service.longshore.template[0].containers) == 2 && google_project_iam_member.metrics[0].role == "roles/monitoring.metricWriter"
    error_message = "no collector"
  }
  assert {
    condition     = yamldecode(google_secret_manager_secret_version.metrics[0].secret_data).spec.endpoints[0].port == 8650
    error_message = "the collector looks at another port"
  }
}

run "no_collector_and_no_role_otherwise" {
  assert {
    condition     = length(google_cloud_run_v2_service.longshore.template[0].containers) == 1 && length(google_project_iam_member.metrics) == 0
    error_message = "a role that nothing needs"
  }
}

run "an_image_that_moves_is_refused" {
  command = plan
  variables {
    image = "europe-north1-docker.pkg.dev/acme-test/longshore/longshore:latest"
  }
  expect_failures = [var.image]
}
