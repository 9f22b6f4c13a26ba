# The service on AWS. VPC, subnets, certificate and Temporal are taken as given; see docs/operations.md.

locals {
  name = "coafi-event-handlers-${var.environment}"
}

module "key" {
  source         = "./modules/key"
  name           = local.name
  log_group_name = local.log_group
}

module "ecr" {
  source          = "./modules/ecr"
  repository_name = local.name
  key_arn         = module.key.arn
}

module "log_bucket" {
  source = "./modules/log_bucket"
  name   = local.name
}

module "objects" {
  source     = "./modules/objects"
  name       = local.name
  key_arn    = module.key.arn
  log_bucket = module.log_bucket.name
}

module "database" {
  source                   = "./modules/database"
  name                     = local.name
  vpc_id                   = var.vpc_id
  subnet_ids               = var.private_subnet_ids
  client_security_group_id = aws_security_group.ecs_service_sg.id
  instance_class           = var.database_instance_class
  storage                  = var.database_storage
  key_arn                  = module.key.arn
}

module "file_system" {
  source                   = "./modules/file_system"
  name                     = local.name
  vpc_id                   = var.vpc_id
  subnet_ids               = var.private_subnet_ids
  client_security_group_id = aws_security_group.ecs_service_sg.id
  key_arn                  = module.key.arn
}

module "load_balancer" {
  source                   = "./modules/load_balancer"
  name                     = "coafi-${var.environment}"
  vpc_id                   = var.vpc_id
  subnet_ids               = var.public_subnet_ids
  internal                 = var.internal
  client_cidr_blocks       = var.client_cidr_blocks
  certificate_arn          = var.certificate_arn
  web_acl_arn              = var.web_acl_arn
  target_security_group_id = aws_security_group.ecs_service_sg.id
  target_port              = local.ports.gateway
  health_check_path        = "/health"
  log_bucket               = module.log_bucket.name
}

# ---------------------------------------------------------------------- secrets and configuration

module "secrets" {
  source  = "./modules/secrets"
  prefix  = "/coafi/${var.environment}/secrets/event-handlers"
  names   = setunion(local.secrets, var.extra_secrets)
  key_arn = module.key.arn
}

# Where another instance keeps ledger or registry; "none": they are kept here. Whoever changes one with
# `aws ssm put-parameter` applies again.
resource "aws_ssm_parameter" "config" {
  #checkov:skip=CKV2_AWS_34:these are addresses, and no secrets
  #checkov:skip=CKV_AWS_337:these are addresses, and no secrets
  for_each       = toset(["bitt-api-url", "registry-api-url"])
  name           = "/coafi/${var.environment}/config/${each.key}"
  description    = "Base URL of another instance's gateway, or none"
  type           = "String"
  insecure_value = "none"

  lifecycle {
    ignore_changes = [insecure_value]
  }
}

# ---------------------------------------------------------------------- what tasks run in

resource "aws_ecs_cluster" "coafi" {
  name = "coafi-${var.environment}"

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_cloudwatch_log_group" "event_handlers_log_group" {
  name              = local.log_group
  retention_in_days = var.log_retention_days
  kms_key_id        = module.key.arn
}

resource "aws_security_group" "ecs_service_sg" {
  name        = "coafi-event-handlers-sg-${var.environment}"
  description = "Tasks of the COAFI Event Handlers"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "gateway" {
  security_group_id            = aws_security_group.ecs_service_sg.id
  description                  = "Requests, from the load balancer"
  referenced_security_group_id = module.load_balancer.security_group_id
  from_port                    = local.ports.gateway
  to_port                      = local.ports.gateway
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_ingress_rule" "metrics" {
  for_each          = { for name, port in local.ports : name => port }
  security_group_id = aws_security_group.ecs_service_sg.id
  description       = "Metrics (${each.key}), from within the VPC"
  cidr_ipv4         = var.vpc_cidr_block
  from_port         = each.value
  to_port           = each.value
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "internet" {
  for_each          = toset([for port in var.egress_ports : tostring(port)])
  security_group_id = aws_security_group.ecs_service_sg.id
  description       = "AWS, Temporal, git hosts, subscribers, peers"
  cidr_ipv4         = "0.0.0.0/0"
  from_port         = tonumber(each.key)
  to_port           = tonumber(each.key)
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "database" {
  security_group_id            = aws_security_group.ecs_service_sg.id
  description                  = "The database"
  referenced_security_group_id = module.database.security_group_id
  from_port                    = module.database.port
  to_port                      = module.database.port
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "file_system" {
  security_group_id            = aws_security_group.ecs_service_sg.id
  description                  = "The listener's home"
  referenced_security_group_id = module.file_system.security_group_id
  from_port                    = 2049
  to_port                      = 2049
  ip_protocol                  = "tcp"
}
