variable "project" {
  description = "The project."
  type        = string
}

variable "name" {
  description = "What names begin with."
  type        = string
}

variable "region" {
  description = "The region of the instance and of its secret."
  type        = string
  nullable    = false
}

variable "network" {
  description = "The network that the instance is reached from, in full. It must be joined to Google's services (`servicenetworking`)."
  type        = string
}

variable "labels" {
  description = "Labels of the instance and the secret."
  type        = map(string)
  default     = {}
}

variable "postgres_version" {
  description = "The version of PostgreSQL: 13 to 18."
  type        = string
  default     = "POSTGRES_17"
  validation {
    condition     = can(regex("^POSTGRES_1[3-8]$", var.postgres_version))
    error_message = "POSTGRES_13 to POSTGRES_18."
  }
}

variable "tier" {
  description = "The machine. The store takes a few small transactions for each commit."
  type        = string
  default     = "db-custom-1-3840"
}

variable "highly_available" {
  description = "Whether a second zone takes over if one fails. No commit is lost then."
  type        = bool
  default     = true
}

variable "deletion_protection" {
  description = "Whether the instance cannot be removed. Without its books Longshore cannot tell what has landed."
  type        = bool
  default     = true
}

variable "password_version" {
  description = "A number; raise it to get another password."
  type        = number
  default     = 1
}
