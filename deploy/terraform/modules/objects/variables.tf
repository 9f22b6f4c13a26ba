variable "name" {
  description = "Beginning of the bucket's name"
  type        = string
}

variable "key_arn" {
  description = "Key that objects are encrypted with"
  type        = string
}

variable "log_bucket" {
  description = "Bucket that gets the access logs"
  type        = string
}
