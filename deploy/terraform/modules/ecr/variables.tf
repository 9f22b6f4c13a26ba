variable "repository_name" {
  description = "Name of the repository"
  type        = string
}

variable "key_arn" {
  description = "Key that images are encrypted with"
  type        = string
}
