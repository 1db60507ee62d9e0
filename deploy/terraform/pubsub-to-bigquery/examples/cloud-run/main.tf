# Messages of a Pub/Sub topic into the tables of a BigQuery dataset, by Longshore on Cloud Run.

resource "google_project_service" "apis" {
  for_each = toset([
    "bigquery.googleapis.com",
    "bigquerystorage.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "compute.googleapis.com",
    "iam.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "servicenetworking.googleapis.com",
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

module "network" {
  source = "../../modules/network"

  project      = var.project
  name         = var.name
  region       = var.region
  subnet_range = var.subnet_range

  depends_on = [google_project_service.apis]
}

module "store" {
  source = "../../modules/store"

  project             = var.project
  name                = var.name
  region              = var.region
  network             = module.network.network
  labels              = var.labels
  highly_available    = var.highly_available
  password_version    = var.store_password_version
  deletion_protection = var.deletion_protection

  depends_on = [google_project_service.apis]
}

module "longshore" {
  source = "../../modules/cloud-run"

  project             = var.project
  name                = var.name
  region              = var.region
  labels              = var.labels
  image               = var.image
  replicas            = var.replicas
  metrics_image       = var.metrics_image
  service_account     = module.landing.service_account
  store               = module.store
  network             = module.network.network
  subnetwork          = module.network.subnetwork
  deletion_protection = var.deletion_protection

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
