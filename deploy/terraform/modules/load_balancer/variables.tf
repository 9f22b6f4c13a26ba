variable "name" {
  description = "Name of the load balancer, at most 32 characters"
  type        = string
}

variable "vpc_id" {
  description = "ID of the VPC"
  type        = string
}

variable "subnet_ids" {
  description = "Subnets in two availability zones or more"
  type        = list(string)
}

variable "internal" {
  description = "Whether it has private addresses only"
  type        = bool
}

variable "client_cidr_blocks" {
  description = "Who may reach it"
  type        = list(string)
}

variable "certificate_arn" {
  description = "Certificate that it shows"
  type        = string
}

variable "web_acl_arn" {
  description = "Web ACL that guards it, or null"
  type        = string
}

variable "target_security_group_id" {
  description = "Security group of the gateways"
  type        = string
}

variable "target_port" {
  description = "Port of the gateways"
  type        = number
}

variable "health_check_path" {
  description = "Path that a gateway that lives answers"
  type        = string
}

variable "log_bucket" {
  description = "Bucket that gets the access logs"
  type        = string
}
