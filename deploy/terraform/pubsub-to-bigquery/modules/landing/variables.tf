variable "project" {
  description = "The project of everything that is made here."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project's id has 6 to 30 lower-case letters, digits and hyphens, a letter first and no hyphen last."
  }
}

variable "name" {
  description = "Names everything: the topic and its subscription are called so, the rest begins with it."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name)) && !startswith(var.name, "goog")
    error_message = "3 to 20 lower-case letters, digits and hyphens, a letter first and no hyphen last, and not `goog` in front: so that each service takes the names that are made of it."
  }
}

variable "labels" {
  description = "Labels of everything that takes labels."
  type        = map(string)
  default     = {}
}

variable "publishers" {
  description = "Who may publish to the topic: `serviceAccount:...`, `group:...`."
  type        = set(string)
  default     = []
}

variable "exactly_once_delivery" {
  description = "Whether Pub/Sub confirms acknowledgements. Longshore lands each message once without it, too; with it fewer come twice. It holds within a region, so readers should use the region's own address (`endpoint`)."
  type        = bool
  default     = true
}

variable "message_ordering" {
  description = "Whether messages of an ordering key come in order. It cannot be changed later without another subscription."
  type        = bool
  default     = false
}

variable "message_retention" {
  description = "How long messages wait for Longshore if it does not run: seconds, `600s` (ten minutes) to `2678400s` (31 days)."
  type        = string
  default     = "604800s"
  validation {
    condition     = can(regex("^[0-9]+s$", var.message_retention)) && try(tonumber(trimsuffix(var.message_retention, "s")) >= 600 && tonumber(trimsuffix(var.message_retention, "s")) <= 2678400, false)
    error_message = "Seconds with an `s`, from 600s to 2678400s."
  }
}

variable "dead_letter_retention" {
  description = "How long copies of dead letters wait in their own subscription, in seconds. (The table `_dead_letters` keeps them for good.)"
  type        = string
  default     = "2678400s"
  validation {
    condition     = can(regex("^[0-9]+s$", var.dead_letter_retention)) && try(tonumber(trimsuffix(var.dead_letter_retention, "s")) >= 600 && tonumber(trimsuffix(var.dead_letter_retention, "s")) <= 2678400, false)
    error_message = "Seconds with an `s`, from 600s to 2678400s."
  }
}

variable "storage_regions" {
  description = "The regions that Pub/Sub may keep messages in. Everywhere that the organisation allows, if empty."
  type        = list(string)
  default     = []
}

variable "dataset" {
  description = "The dataset's id. The name with `_` for `-`, if not given."
  type        = string
  default     = null
  validation {
    condition     = var.dataset == null || can(regex("^[A-Za-z0-9_]{1,1024}$", var.dataset))
    error_message = "A dataset's id has letters, digits and underscores only."
  }
}

variable "dataset_location" {
  description = "Where the dataset lies, for ever: `EU`, `US`, `europe-north1` ... There is no default, because it cannot be changed."
  type        = string
  nullable    = false
  validation {
    condition     = can(regex("^([A-Za-z]{2}|[A-Za-z]+-[A-Za-z]+[0-9]+)$", var.dataset_location))
    error_message = "A multi-region (`EU`, `US`) or a region (`europe-north1`)."
  }
}

variable "schemas" {
  description = "A folder of schema files, in BigQuery's own JSON: `TABLE.json` or `TABLE.schema.json`. Each is a table."
  type        = string
}

variable "tables" {
  description = "What tables are to be like besides their columns, by name. Whatever is not said is as BigQuery has it."
  type = map(object({
    description               = optional(string)
    partition_by              = optional(string)
    partition_unit            = optional(string, "DAY")
    partition_expiration_days = optional(number)
    require_partition_filter  = optional(bool, false)
    cluster_by                = optional(list(string), [])
  }))
  default = {}
  validation {
    condition     = alltrue([for table in values(var.tables) : contains(["HOUR", "DAY", "MONTH", "YEAR"], table.partition_unit)])
    error_message = "`partition_unit` is HOUR, DAY, MONTH or YEAR."
  }
  validation {
    condition     = alltrue([for table in values(var.tables) : length(table.cluster_by) <= 4])
    error_message = "BigQuery sorts by at most four columns."
  }
  validation {
    condition     = alltrue([for table in values(var.tables) : table.partition_by != null || (table.partition_expiration_days == null && !table.require_partition_filter)])
    error_message = "`partition_expiration_days` and `require_partition_filter` need `partition_by`."
  }
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to remove tables, and the dataset with what is in it. A change that BigQuery cannot make in place (another type) replaces a table, so leave this on where there are rows. It does not keep a column that is taken out of its schema file."
  type        = bool
  default     = true
}

variable "staging_bucket" {
  description = "Whether to make a bucket for load jobs (`method: load_job`, `staging: gs://...`). Streams do not need one."
  type        = bool
  default     = false
}
