output "arns" {
  description = "ARNs of the parameters, by the names of the secrets"
  value       = { for name, one in aws_ssm_parameter.secret : name => one.arn }
}

output "parameters" {
  description = "Names of the parameters, by the names of the secrets"
  value       = { for name, one in aws_ssm_parameter.secret : name => one.name }
}
