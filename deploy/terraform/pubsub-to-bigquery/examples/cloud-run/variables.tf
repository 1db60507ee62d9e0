variable "project" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "Where Longshore and its store run, best near the dataset: `europe-north1` ..."
  type        = string
  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region, such as `europe-north1`; not a zone and not a multi-region."
  }
}

variable "dataset_location" {
  description = "Where the dataset lies, for ever: `EU`, `US`, `europe-north1` ..."
  type        = string
}

variable "name" {
  description = "Names everything."
  type        = string
  default     = "harbour"
}

variable "labels" {
  description = "Labels of everything that takes labels."
  type        = map(string)
  default     = {}
}

variable "image" {
  description = "Longshore's image: build it with deploy/container, and push it."
  type        = string
}

variable "schemas" {
  description = "The folder of schema files. Each is a table."
  type        = string
  default     = "../../schemas"
}

variable "tables" {
  description = "What tables are to be like besides their columns; see the module `landing`."
  type        = any
  default     = {}
}

variable "pipeline" {
  description = "The pipeline file."
  type        = string
  default     = "../../pipeline.yaml"
}

variable "publishers" {
  description = "Who may publish to the topic: `serviceAccount:...`, `group:...`."
  type        = set(string)
  default     = []
}

variable "message_ordering" {
  description = "Whether messages of an ordering key come in order."
  type        = bool
  default     = false
}

variable "storage_regions" {
  description = "The regions that Pub/Sub may keep messages in; everywhere that the organisation allows, if empty."
  type        = list(string)
  default     = []
}

variable "staging_bucket" {
  description = "Whether to make a bucket for load jobs."
  type        = bool
  default     = false
}

variable "replicas" {
  description = "Instances that share the work; 0 stops it."
  type        = number
  default     = 2
}

variable "metrics_image" {
  description = "The image of Google's Prometheus collector for Cloud Run; no metrics are sent to Cloud Monitoring without it."
  type        = string
  default     = null
}

variable "subnet_range" {
  description = "The addresses of Longshore's own side of the network."
  type        = string
  default     = "10.64.0.0/24"
}

variable "highly_available" {
  description = "Whether the store survives the loss of a zone."
  type        = bool
  default     = true
}

variable "store_password_version" {
  description = "A number; raise it to get another password of the store."
  type        = number
  default     = 1
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to remove tables, the store and the service."
  type        = bool
  default     = true
}
