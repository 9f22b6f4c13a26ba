output "id" {
  description = "ID of the file system"
  value       = aws_efs_file_system.home.id
}

output "arn" {
  description = "ARN of the file system"
  value       = aws_efs_file_system.home.arn
}

output "access_point_id" {
  description = "ID of the access point of the listener's home"
  value       = aws_efs_access_point.home.id
}

output "access_point_arn" {
  description = "ARN of that access point"
  value       = aws_efs_access_point.home.arn
}

output "security_group_id" {
  description = "Security group of the file system"
  value       = aws_security_group.home.id
}
