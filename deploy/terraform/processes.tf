# Which processes there are, what they are told, and how many of each run.

locals {
  log_group = "/ecs/${local.name}"
  home      = "/var/lib/coafi"
  ports     = { gateway = 8080, metrics = 9090 }

  # Every process gets these as files below its home, named like settings or as the service looks for them.
  secrets = toset([
    "AUTH_SECRET",
    "COAFI_DATABASE_URL",
    "COAFI_EVENTS_SECRETS",
    "COAFI_GITHUB_WEBHOOK_SECRET",
    "api-keys.json",
    "database-ca.pem",
    "federation-key",
    "ledger-key",
    "witness-key",
  ])

  settings = merge({
    COAFI_SECRETS_DIR        = "${local.home}/secrets"
    COAFI_METRICS_PORT       = tostring(local.ports.metrics)
    COAFI_DRAIN_TIMEOUT      = "30"
    COAFI_GIT_MIRRORS_BYTES  = tostring((var.task_storage - 15) * 1024 * 1024 * 1024)
    COAFI_LEDGER_ORIGIN      = var.ledger_origin
    COAFI_OBJECTS_URL        = "s3://${module.objects.bucket}/${local.objects_prefix}"
    COAFI_PUBLIC_URL         = var.public_url
    COAFI_S3_REGION          = var.aws_region
    COAFI_TEMPORAL_ADDRESS   = var.temporal_address
    COAFI_TEMPORAL_NAMESPACE = var.temporal_namespace
    COAFI_TEMPORAL_PROFILE   = var.temporal_profile
    TEMPORAL_CONFIG_FILE     = "${local.home}/secrets/temporal.toml"
    BITT_API_URL             = local.config["bitt-api-url"]
    REGISTRY_API_URL         = local.config["registry-api-url"]
  }, var.settings)

  config         = { for name, one in aws_ssm_parameter.config : name => one.insecure_value == "none" ? "" : one.insecure_value }
  objects_prefix = "objects"

  # The owner of the tables, whose password RDS makes and changes.
  owner_url = "postgresql://${module.database.username}@${module.database.address}:${module.database.port}/${module.database.name}?sslmode=verify-full&sslrootcert=${local.home}/secrets/database-ca.pem"

  # How many workers serve a queue. CPU and memory scale them: nothing here knows the backlog of a task queue.
  queues = merge({
    coafi-events   = { min = 2, max = 20 }
    coafi-git      = { min = 2, max = 20 }
    coafi-files    = { min = 2, max = 20 }
    coafi-api      = { min = 2, max = 5 }
    coafi-delivery = { min = 1, max = 5 }
    coafi-tasks    = { min = 1, max = 5 }
  }, var.worker_replicas)

  services = merge({
    gateway = {
      command     = ["gateway"]
      port        = local.ports.gateway
      health_path = "/health"
      min         = var.service_min_replicas
      max         = var.service_max_replicas
    }
    # One is enough; its home is kept, and belongs to one process at a time.
    listener = {
      command     = ["listener"]
      port        = local.ports.metrics
      health_path = "/metrics"
      min         = 1
      max         = 1
    }
    }, {
    for queue, replicas in local.queues : "worker-${trimprefix(queue, "coafi-")}" => {
      command     = ["worker", "--queue", queue]
      port        = local.ports.metrics
      health_path = "/metrics"
      min         = replicas.min
      max         = replicas.max
    }
  })
}

module "task" {
  source         = "./modules/ecs_task"
  for_each       = local.services
  name           = each.key
  family         = "${local.name}-${each.key}"
  image          = "${module.ecr.repository_url}:${var.image_tag}"
  repository_arn = module.ecr.repository_arn
  command        = each.value.command
  cpu            = var.task_cpu
  memory         = var.task_memory
  storage        = var.task_storage
  home           = local.home
  settings       = local.settings
  secrets        = module.secrets.arns
  port           = each.value.port
  health_path    = each.value.health_path
  region         = var.aws_region
  log_group_name = aws_cloudwatch_log_group.event_handlers_log_group.name
  log_group_arn  = aws_cloudwatch_log_group.event_handlers_log_group.arn
  key_arn        = module.key.arn
  # Only the clean-up, a task of this queue, removes objects.
  objects = {
    bucket_arn = module.objects.bucket_arn
    prefix     = local.objects_prefix
    delete     = contains(each.value.command, "coafi-tasks")
  }
  file_system = each.key == "listener" ? {
    id               = module.file_system.id
    arn              = module.file_system.arn
    access_point_id  = module.file_system.access_point_id
    access_point_arn = module.file_system.access_point_arn
  } : null
}

module "service" {
  source              = "./modules/ecs_service"
  for_each            = local.services
  name                = each.key
  cluster_arn         = aws_ecs_cluster.coafi.arn
  cluster_name        = aws_ecs_cluster.coafi.name
  task_definition_arn = module.task[each.key].task_definition_arn
  subnet_ids          = var.private_subnet_ids
  security_group_ids  = [aws_security_group.ecs_service_sg.id]
  min_replicas        = each.value.min
  max_replicas        = each.value.max
  single              = each.key == "listener"
  target              = each.key == "gateway" ? { group_arn = module.load_balancer.target_group_arn, port = each.value.port } : null

  # Tasks that cannot get out, or whose home cannot be reached, would fail until these are there.
  depends_on = [
    aws_vpc_security_group_egress_rule.internet,
    aws_vpc_security_group_egress_rule.database,
    aws_vpc_security_group_egress_rule.file_system,
    module.file_system,
    module.load_balancer,
  ]
}

# Brings the tables up to date as their owner. deploy.sh runs it before services get the new image.
module "migrate" {
  source              = "./modules/ecs_task"
  name                = "migrate"
  family              = "${local.name}-migrate"
  image               = "${module.ecr.repository_url}:${var.image_tag}"
  repository_arn      = module.ecr.repository_arn
  command             = ["database", "migrate"]
  cpu                 = var.task_cpu
  memory              = var.task_memory
  storage             = var.task_storage
  home                = local.home
  settings            = { COAFI_SECRETS_DIR = "${local.home}/secrets", COAFI_DATABASE_URL = local.owner_url }
  secrets             = { "database-ca.pem" = module.secrets.arns["database-ca.pem"] }
  password_secret_arn = module.database.password_secret_arn
  region              = var.aws_region
  log_group_name      = aws_cloudwatch_log_group.event_handlers_log_group.name
  log_group_arn       = aws_cloudwatch_log_group.event_handlers_log_group.arn
  key_arn             = module.key.arn
}
