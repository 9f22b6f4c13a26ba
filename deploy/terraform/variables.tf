variable "aws_region" {
  description = "AWS region for deployment"
  type        = string
}

variable "environment" {
  description = "Deployment environment (e.g., dev, staging, prod)"
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,10}$", var.environment))
    error_message = "Names are made of it: 2 to 11 lower-case letters and digits."
  }
}

variable "image_tag" {
  description = "Tag of the image in the repository made here; deploy.sh gives it"
  type        = string
}

# ---------------------------------------------------------------------- network

variable "vpc_id" {
  description = "ID of the VPC"
  type        = string
}

variable "vpc_cidr_block" {
  description = "CIDR block of the VPC: whoever is in it may collect metrics"
  type        = string
}

variable "private_subnet_ids" {
  description = "Private subnets, in two availability zones or more, for tasks, database and file system; with a way out (NAT)"
  type        = list(string)

  validation {
    condition     = length(var.private_subnet_ids) > 1
    error_message = "The database needs subnets in two availability zones."
  }
}

variable "public_subnet_ids" {
  description = "Subnets, in two availability zones or more, for the load balancer; private ones if it is internal"
  type        = list(string)

  validation {
    condition     = length(var.public_subnet_ids) > 1
    error_message = "The load balancer needs subnets in two availability zones."
  }
}

variable "internal" {
  description = "Whether the load balancer has private addresses only; GitHub and peers outside do not reach it then"
  type        = bool
  default     = false
}

variable "client_cidr_blocks" {
  description = "Who may reach the load balancer"
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "egress_ports" {
  description = "TCP ports that tasks may reach anywhere: https, Temporal; add those of git hosts, subscribers and peers"
  type        = list(number)
  default     = [443, 7233]
}

variable "certificate_arn" {
  description = "Certificate (ACM) of the host in public_url"
  type        = string
}

variable "web_acl_arn" {
  description = "Web ACL (WAFv2) for the load balancer; none if null. Its limit of bodies must allow those of webhooks"
  type        = string
  default     = null
}

# ---------------------------------------------------------------------- service

variable "public_url" {
  description = "Base URL at which people reach the gateway, without a slash at its end"
  type        = string

  validation {
    condition     = can(regex("^https://[^/]+$", var.public_url))
    error_message = "It must be https:// and a host."
  }
}

variable "ledger_origin" {
  description = "Name of the ledger in its signed checkpoints; never change it"
  type        = string
}

variable "temporal_address" {
  description = "host:port of Temporal without TLS; empty if a profile says it"
  type        = string

  validation {
    condition     = var.temporal_address != "" || var.temporal_profile != ""
    error_message = "Say where Temporal is: its address, or a profile."
  }
}

variable "temporal_profile" {
  description = "Profile in the secret temporal.toml (TLS, API key); empty if there is none. Add temporal.toml to extra_secrets"
  type        = string
  default     = ""
}

variable "temporal_namespace" {
  description = "Temporal namespace; never change it"
  type        = string
}

variable "settings" {
  description = "More settings that are no secrets, by the names of their variables"
  type        = map(string)
  default     = {}
}

variable "extra_secrets" {
  description = "More secrets: settings, by the names of their variables, and files of the directory of secrets"
  type        = set(string)
  default     = []
}

# ---------------------------------------------------------------------- sizes

variable "service_min_replicas" {
  description = "Minimum number of tasks of the gateway"
  type        = number
  default     = 3
}

variable "service_max_replicas" {
  description = "Maximum number of tasks of the gateway"
  type        = number
  default     = 10
}

variable "worker_replicas" {
  description = "Minimum and maximum number of tasks of workers, by task queue, where they are not those of the defaults"
  type        = map(object({ min = number, max = number }))
  default     = {}
}

variable "task_cpu" {
  description = "CPU units of each task"
  type        = string
  default     = "512"
}

variable "task_memory" {
  description = "Memory of each task, in MiB"
  type        = string
  default     = "1024"
}

variable "task_storage" {
  description = "Disk of each task, in GiB: the image, and mirrors of repositories"
  type        = number
  default     = 30

  validation {
    condition     = var.task_storage >= 21 && var.task_storage <= 200
    error_message = "Fargate gives 21 to 200 GiB."
  }
}

variable "database_instance_class" {
  description = "Instance class of the database; each task may hold 16 connections"
  type        = string
  default     = "db.m7g.large"
}

variable "database_storage" {
  description = "Disk of the database at first, in GiB; it grows to ten times as much"
  type        = number
  default     = 50
}

variable "log_retention_days" {
  description = "Days that logs are kept"
  type        = number
  default     = 365
}
