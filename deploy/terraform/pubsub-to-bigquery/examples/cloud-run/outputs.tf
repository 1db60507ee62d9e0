output "topic" {
  description = "The topic to publish to."
  value       = module.landing.topic
}

output "subscription" {
  description = "The subscription that Longshore reads."
  value       = module.landing.subscription
}

output "dead_letter_subscription" {
  description = "Copies of what did not fit, with the reasons."
  value       = module.landing.dead_letter_subscription
}

output "dataset" {
  description = "The dataset."
  value       = module.landing.dataset
}

output "tables" {
  description = "The tables that messages may name."
  value       = module.landing.tables
}

output "service_account" {
  description = "Who Longshore is."
  value       = module.landing.service_account
}

output "service" {
  description = "The service on Cloud Run."
  value       = module.longshore.service
}

output "store" {
  description = "Where the store is, without the password."
  value       = module.store.url
}

output "job" {
  description = "The job that runs any other command of Longshore's."
  value       = module.longshore.job
}
