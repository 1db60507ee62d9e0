output "service" {
  description = "The service's name."
  value       = google_cloud_run_v2_service.longshore.name
}

output "job" {
  description = "The job that runs any other command of Longshore's."
  value       = google_cloud_run_v2_job.command.name
}
