variable "project" {
  description = "The project."
  type        = string
}

variable "region" {
  description = "Where the cluster is, and the store will be: `europe-north1` ..."
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
  description = "Pods that share the work; 0 stops it."
  type        = number
  default     = 2
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
  description = "Whether Terraform refuses to remove tables and the store."
  type        = bool
  default     = true
}

variable "kubeconfig" {
  description = "The file that says how the cluster is reached."
  type        = string
  default     = "~/.kube/config"
}

variable "context" {
  description = "The cluster, by its name in that file."
  type        = string
}

variable "cluster_project" {
  description = "The project of the cluster, if it is another one."
  type        = string
  default     = null
}

variable "namespace" {
  description = "The namespace, which must exist."
  type        = string
  default     = "longshore"
}

variable "network" {
  description = "The cluster's network, in full: `projects/acme/global/networks/main`. It must be joined to Google's services (private services access), so that the pods reach the store."
  type        = string
  validation {
    condition     = can(regex("^projects/[^/]+/global/networks/[^/]+$", var.network))
    error_message = "In full: `projects/PROJECT/global/networks/NAME`."
  }
}
