variable "project" {
  description = "The project of the service account."
  type        = string
}

variable "cluster_project" {
  description = "The project of the cluster, whose workload identity pool is used."
  type        = string
}

variable "namespace" {
  description = "The namespace, which must exist."
  type        = string
}

variable "name" {
  description = "What names begin with."
  type        = string
}

variable "image" {
  description = "Longshore's image (deploy/container), with a digest or a tag that does not move."
  type        = string
  validation {
    condition     = !endswith(var.image, ":latest") && can(regex("(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9._-]*)$", var.image))
    error_message = "Name a tag other than `latest`, or a digest: which version runs should not depend on when a pod starts."
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
  description = "Who Longshore is to Google: the address of a service account."
  type        = string
}

variable "store_url" {
  description = "Where the store is, without the password."
  type        = string
}

variable "store_certificate" {
  description = "The certificate that the store's server is checked against (PEM)."
  type        = string
}

variable "store_password" {
  description = "The store's password. It is passed on and not kept."
  type        = string
  ephemeral   = true
}

variable "store_password_version" {
  description = "A number that changes with the password: the pods are then replaced."
  type        = number
}

variable "replicas" {
  description = "Pods that share the work; 0 stops it."
  type        = number
  default     = 2
  validation {
    condition     = var.replicas >= 0 && floor(var.replicas) == var.replicas
    error_message = "A whole number from 0."
  }
}

variable "cpu" {
  description = "What a pod asks for of a processor."
  type        = string
  default     = "500m"
}

variable "memory" {
  description = "Memory of a pod. Longshore's buffers take 256 MiB of it unless it is told otherwise (LONGSHORE_MEMORY)."
  type        = string
  default     = "1Gi"
}
