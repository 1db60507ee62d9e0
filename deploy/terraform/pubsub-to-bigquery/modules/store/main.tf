# Longshore's store, in PostgreSQL: the books of what has landed. With it any number of replicas share the work.

resource "google_sql_database_instance" "store" {
  project             = var.project
  name                = "${var.name}-longshore"
  region              = var.region
  database_version    = var.postgres_version
  deletion_protection = var.deletion_protection

  settings {
    edition                     = "ENTERPRISE"
    tier                        = var.tier
    availability_type           = var.highly_available ? "REGIONAL" : "ZONAL"
    disk_autoresize             = true
    deletion_protection_enabled = var.deletion_protection
    user_labels                 = var.labels

    ip_configuration {
      ipv4_enabled    = false
      private_network = var.network
      ssl_mode        = "ENCRYPTED_ONLY"
      # An authority of the instance's own: its certificate is `server_ca_cert`.
      server_ca_mode = "GOOGLE_MANAGED_INTERNAL_CA"
    }

    backup_configuration {
      enabled                        = true
      point_in_time_recovery_enabled = true
    }
  }
}

resource "google_sql_database" "store" {
  project  = var.project
  instance = google_sql_database_instance.store.name
  name     = "longshore"
  # It goes with the instance.
  deletion_policy = "ABANDON"
}

# The password is made up on the way, goes into Secret Manager, and from there to the database: it stands neither in a file nor in Terraform's
# state. That it is read back means that both have the same one, also if an apply ended between the two.
ephemeral "random_password" "new" {
  length  = 40
  special = false
}

resource "google_secret_manager_secret" "password" {
  project   = var.project
  secret_id = "${var.name}-longshore-store"
  labels    = var.labels

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }
}

resource "google_secret_manager_secret_version" "password" {
  secret                 = google_secret_manager_secret.password.id
  secret_data_wo         = ephemeral.random_password.new.result
  secret_data_wo_version = var.password_version
  # What still runs may be told the older one when it starts again.
  deletion_policy = "ABANDON"

  lifecycle {
    create_before_destroy = true
  }
}

ephemeral "google_secret_manager_secret_version" "password" {
  project = var.project
  secret  = google_secret_manager_secret.password.id
  version = google_secret_manager_secret_version.password.version
}

resource "google_sql_user" "longshore" {
  project             = var.project
  instance            = google_sql_database_instance.store.name
  name                = "longshore"
  password_wo         = ephemeral.google_secret_manager_secret_version.password.secret_data
  password_wo_version = var.password_version
  # A user that owns tables cannot be dropped. It goes with the instance.
  deletion_policy = "ABANDON"
}
