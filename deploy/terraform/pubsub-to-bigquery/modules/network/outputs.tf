output "network" {
  description = "The network, in full. Cloud SQL can be made in it."
  value       = google_compute_network.private.id
  depends_on  = [google_service_networking_connection.services]
}

output "subnetwork" {
  description = "The subnet, in full."
  value       = google_compute_subnetwork.workers.id
}
