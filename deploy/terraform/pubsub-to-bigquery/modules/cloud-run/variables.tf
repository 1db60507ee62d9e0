variable "project" {
  description = "The project."
  type        = string
}

variable "name" {
  description = "What names begin with."
  type        = string
}

variable "region" {
  description = "Where it runs."
  type        = string
  nullable    = false
}

variable "labels" {
  description = "Labels of the service and its secrets."
  type        = map(string)
  default     = {}
}

variable "image" {
  description = "Longshore's image (deploy/container), with a digest or a tag that does not move."
  type        = string
  validation {
    condition     = !endswith(var.image, ":latest") && can(regex("(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9._-]*)$", var.image))
    error_message = "Name a tag other than `latest`, or a digest: which version runs should not depend on when an instance starts."
  }
}

variable "pipeline" {
  description = "The pipeline file's text. `$${NAME}` in it is a variable of `environment`."
  type        = string
}

variable "environment" {
  description = "Variables for the pipeline file, and settings of Longshore. No secrets."
  type        = map(string)
  default     = {}
}

variable "service_account" {
  description = "Who Longshore is: the address of a service account."
  type        = string
}

variable "store" {
  description = "The store, as the module `store` tells it."
  type = object({
    url                     = string
    certificate             = string
    password_secret         = string
    password_secret_version = string
  })
}

variable "network" {
  description = "The network that reaches the store, in full."
  type        = string
}

variable "subnetwork" {
  description = "The subnet that instances get addresses from, in full."
  type        = string
}

variable "replicas" {
  description = "Instances that share the work; 0 stops it."
  type        = number
  default     = 2
  validation {
    condition     = var.replicas >= 0 && floor(var.replicas) == var.replicas
    error_message = "A whole number from 0."
  }
}

variable "cpu" {
  description = "Processors of an instance: `1`, `2`, `4` ..."
  type        = string
  default     = "1"
}

variable "memory" {
  description = "Memory of an instance. Longshore's buffers take 256 MiB of it unless it is told otherwise (LONGSHORE_MEMORY)."
  type        = string
  default     = "1Gi"
}

variable "metrics_image" {
  description = "The image of Google's Prometheus collector for Cloud Run, if metrics are to be sent to Cloud Monitoring; see the README."
  type        = string
  default     = null
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to remove the service."
  type        = bool
  default     = true
}
