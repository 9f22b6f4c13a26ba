variable "name" {
  description = "Alias of the key"
  type        = string
}

variable "log_group_name" {
  description = "Log group that may be encrypted with it"
  type        = string
}
