# Messages of a Pub/Sub topic into the tables of a BigQuery dataset, by Longshore on a GKE cluster that is there already.

resource "google_project_service" "apis" {
  for_each = toset([
    "bigquery.googleapis.com",
    "bigquerystorage.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "pubsub.googleapis.com",
    "secretmanager.googleapis.com",
    "sqladmin.googleapis.com",
  ])

  project            = var.project
  service            = each.key
  disable_on_destroy = false
}

module "landing" {
  source = "../../modules/landing"

  project             = var.project
  name                = var.name
  labels              = var.labels
  dataset_location    = var.dataset_location
  schemas             = var.schemas
  tables              = var.tables
  publishers          = var.publishers
  message_ordering    = var.message_ordering
  storage_regions     = var.storage_regions
  staging_bucket      = var.staging_bucket
  deletion_protection = var.deletion_protection

  depends_on = [google_project_service.apis]
}

module "store" {
  source = "../../modules/store"

  project             = var.project
  name                = var.name
  region              = var.region
  network             = var.network
  labels              = var.labels
  highly_available    = var.highly_available
  password_version    = var.store_password_version
  deletion_protection = var.deletion_protection

  depends_on = [google_project_service.apis]
}

module "longshore" {
  source = "../../modules/kubernetes"

  project                = var.project
  cluster_project        = coalesce(var.cluster_project, var.project)
  namespace              = var.namespace
  name                   = var.name
  image                  = var.image
  replicas               = var.replicas
  service_account        = module.landing.service_account
  store_url              = module.store.url
  store_certificate      = module.store.certificate
  store_password         = module.store.password
  store_password_version = var.store_password_version

  pipeline = file(var.pipeline)
  environment = {
    PIPELINE          = var.name
    PROJECT           = var.project
    SUBSCRIPTION      = module.landing.subscription
    DEAD_LETTER_TOPIC = module.landing.dead_letter_topic
    DATASET           = module.landing.dataset
    PUBSUB_ENDPOINT   = "https://${var.region}-pubsub.googleapis.com"
  }
}
