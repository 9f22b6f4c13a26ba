output "repository_url" {
  description = "Where images are pushed to"
  value       = module.ecr.repository_url
}

output "secret_parameters" {
  description = "Names of the parameters that hold the secrets, by the names of the secrets"
  value       = module.secrets.parameters
}

output "database" {
  description = "Address, owner, name of the database, and the secret with the owner's password"
  value = {
    address             = module.database.address
    username            = module.database.username
    name                = module.database.name
    password_secret_arn = module.database.password_secret_arn
  }
}

output "cluster_name" {
  description = "Name of the cluster"
  value       = aws_ecs_cluster.coafi.name
}

output "migrate_task_definition" {
  description = "Task that brings the tables up to date"
  value       = module.migrate.task_definition_arn
}

output "network_configuration" {
  description = "Where a task runs, for aws ecs run-task"
  value = jsonencode({
    awsvpcConfiguration = {
      subnets        = var.private_subnet_ids
      securityGroups = [aws_security_group.ecs_service_sg.id]
      assignPublicIp = "DISABLED"
    }
  })
}

output "load_balancer_dns_name" {
  description = "What the host in public_url must point at"
  value       = module.load_balancer.dns_name
}

output "load_balancer_zone_id" {
  description = "Hosted zone of that name, for an alias record"
  value       = module.load_balancer.zone_id
}
