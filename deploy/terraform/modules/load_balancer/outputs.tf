output "target_group_arn" {
  description = "Target group of the gateways, which gets requests"
  value       = aws_lb_listener.https.default_action[0].target_group_arn
}

output "security_group_id" {
  description = "Security group of the load balancer"
  value       = aws_security_group.load_balancer.id
}

output "dns_name" {
  description = "Name of the load balancer"
  value       = aws_lb.gateway.dns_name
}

output "zone_id" {
  description = "Hosted zone of that name"
  value       = aws_lb.gateway.zone_id
}
