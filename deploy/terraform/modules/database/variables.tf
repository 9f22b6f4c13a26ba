variable "name" {
  description = "Name of the instance"
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

variable "client_security_group_id" {
  description = "Security group of those who may connect"
  type        = string
}

variable "instance_class" {
  description = "Instance class"
  type        = string
}

variable "storage" {
  description = "Disk at first, in GiB; it grows to ten times as much"
  type        = number
}

variable "key_arn" {
  description = "Key that data, backups and the owner's password are encrypted with"
  type        = string
}
