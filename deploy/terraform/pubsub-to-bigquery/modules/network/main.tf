# A private network for Longshore and its store. Google's own services are reached from it without public addresses.

resource "google_compute_network" "private" {
  project                 = var.project
  name                    = "${var.name}-longshore"
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "workers" {
  project                  = var.project
  name                     = "${var.name}-longshore"
  region                   = var.region
  network                  = google_compute_network.private.id
  ip_cidr_range            = var.subnet_range
  private_ip_google_access = true
}

# Addresses for Cloud SQL, which lives in a network of Google's that is joined to this one.
resource "google_compute_global_address" "services" {
  project       = var.project
  name          = "${var.name}-longshore-services"
  network       = google_compute_network.private.id
  purpose       = "VPC_PEERING"
  address_type  = "INTERNAL"
  prefix_length = 20
}

resource "google_service_networking_connection" "services" {
  network                 = google_compute_network.private.id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services.name]
}
