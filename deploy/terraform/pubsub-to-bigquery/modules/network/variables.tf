variable "project" {
  description = "The project."
  type        = string
}

variable "name" {
  description = "What names begin with."
  type        = string
}

variable "region" {
  description = "The region of the subnet."
  type        = string
  nullable    = false
}

variable "subnet_range" {
  description = "The addresses of Longshore's own side, a /26 or more."
  type        = string
  default     = "10.64.0.0/24"
  validation {
    condition     = can(cidrhost(var.subnet_range, 0)) && try(tonumber(split("/", var.subnet_range)[1]) <= 26, false)
    error_message = "A range such as 10.64.0.0/24, with at least 64 addresses: Cloud Run takes them in blocks."
  }
}
