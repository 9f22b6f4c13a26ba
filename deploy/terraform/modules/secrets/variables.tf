variable "prefix" {
  description = "Path of the parameters"
  type        = string
}

variable "names" {
  description = "Names of the files in the directory of secrets"
  type        = set(string)
}

variable "key_arn" {
  description = "Key that they are encrypted with"
  type        = string
}
