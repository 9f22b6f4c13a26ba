variable "name" {
  description = "Name of the process: of its container, and of its log streams"
  type        = string
}

variable "family" {
  description = "Family of the task definition, and beginning of its roles' names"
  type        = string
}

variable "image" {
  description = "Image, with its tag"
  type        = string
}

variable "repository_arn" {
  description = "Repository that the image is in"
  type        = string
}

variable "command" {
  description = "Words after coafi"
  type        = list(string)
}

variable "cpu" {
  description = "CPU units"
  type        = string
}

variable "memory" {
  description = "Memory, in MiB"
  type        = string
}

variable "storage" {
  description = "Disk, in GiB"
  type        = number
}

variable "home" {
  description = "COAFI_HOME of the image"
  type        = string
}

variable "settings" {
  description = "Settings that are no secrets, by the names of their variables"
  type        = map(string)
}

variable "secrets" {
  description = "ARNs of parameters, by the names of the files they are written to"
  type        = map(string)
}

variable "password_secret_arn" {
  description = "Secret with the password of a user of the database, if the process has one of its own"
  type        = string
  default     = null
}

variable "port" {
  description = "Port that the process serves; none if null"
  type        = number
  default     = null
}

variable "health_path" {
  description = "Path on that port that a process that lives answers"
  type        = string
  default     = ""
}

variable "region" {
  description = "Region of log group, parameters and key"
  type        = string
}

variable "log_group_name" {
  description = "Name of the log group"
  type        = string
}

variable "log_group_arn" {
  description = "ARN of the log group"
  type        = string
}

variable "key_arn" {
  description = "Key that secrets and objects are encrypted with"
  type        = string
}

variable "objects" {
  description = "Bucket and prefix of the object store, and whether objects may be removed; null if they are not needed"
  type        = object({ bucket_arn = string, prefix = string, delete = bool })
  default     = null
}

variable "file_system" {
  description = "File system that the home is kept on; null if it goes with the task"
  type        = object({ id = string, arn = string, access_point_id = string, access_point_arn = string })
  default     = null
}
