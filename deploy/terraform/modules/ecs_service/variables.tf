variable "name" {
  description = "Name of the service, and of its container"
  type        = string
}

variable "cluster_arn" {
  description = "Cluster that it runs in"
  type        = string
}

variable "cluster_name" {
  description = "Name of that cluster"
  type        = string
}

variable "task_definition_arn" {
  description = "What it runs"
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets"
  type        = list(string)
}

variable "security_group_ids" {
  description = "Security groups of its tasks"
  type        = list(string)
}

variable "min_replicas" {
  description = "Minimum number of tasks"
  type        = number
}

variable "max_replicas" {
  description = "Maximum number of tasks"
  type        = number
}

variable "single" {
  description = "Whether two of its tasks must never run at a time"
  type        = bool
}

variable "target" {
  description = "Target group of the load balancer, and port that it sends requests to; null if nobody sends any"
  type        = object({ group_arn = string, port = number })
}
