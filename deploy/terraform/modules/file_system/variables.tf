variable "name" {
  description = "Beginning of names"
  type        = string
}

variable "vpc_id" {
  description = "ID of the VPC"
  type        = string
}

variable "subnet_ids" {
  description = "Subnets in which it can be mounted"
  type        = list(string)
}

variable "client_security_group_id" {
  description = "Security group of those who may mount it"
  type        = string
}

variable "key_arn" {
  description = "Key that it is encrypted with"
  type        = string
}
