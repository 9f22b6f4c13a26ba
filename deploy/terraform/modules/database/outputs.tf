output "address" {
  description = "Host of the database"
  value       = aws_db_instance.database.address
}

output "port" {
  description = "Port of the database"
  value       = aws_db_instance.database.port
}

output "name" {
  description = "Name of the database"
  value       = aws_db_instance.database.db_name
}

output "username" {
  description = "Owner of the tables"
  value       = aws_db_instance.database.username
}

output "password_secret_arn" {
  description = "Secret that holds the owner's password, which RDS makes and changes"
  value       = aws_db_instance.database.master_user_secret[0].secret_arn
}

output "security_group_id" {
  description = "Security group of the database"
  value       = aws_security_group.database.id
}
