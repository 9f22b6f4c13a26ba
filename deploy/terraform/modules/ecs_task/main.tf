# A process of the image as a task of Fargate. A first container writes its secrets to files of its home, where the process
# finds them, and ends; so they are in no environment of the process.

locals {
  user    = "10001:10001"
  volumes = { home = var.home, tmp = "/tmp" }

  # Names of files are no names of variables: `api-keys.json` comes to the first container as SECRET_API_KEYS_JSON.
  variables = { for name, arn in var.secrets : name => "SECRET_${upper(replace(name, "/[^A-Za-z0-9]/", "_"))}" }

  # Both containers are alike in this.
  container = {
    image                  = var.image
    user                   = local.user
    readonlyRootFilesystem = true
    linuxParameters        = { initProcessEnabled = true, capabilities = { drop = ["ALL"] } }
    mountPoints            = [for name, place in local.volumes : { sourceVolume = name, containerPath = place, readOnly = false }]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = var.log_group_name
        awslogs-region        = var.region
        awslogs-stream-prefix = var.name
      }
    }
  }

  writer = merge(local.container, {
    name        = "secrets"
    essential   = false
    entryPoint  = ["python", "-c"]
    command     = [file("${path.module}/secrets.py")]
    environment = [{ name = "SECRETS", value = jsonencode(local.variables) }]
    secrets     = [for name, arn in var.secrets : { name = local.variables[name], valueFrom = arn }]
  })

  process = merge(local.container, {
    name         = var.name
    essential    = true
    command      = var.command
    dependsOn    = [{ containerName = "secrets", condition = "SUCCESS" }]
    environment  = [for name, value in var.settings : { name = name, value = value }]
    secrets      = [for arn in var.password_secret_arn[*] : { name = "PGPASSWORD", valueFrom = "${arn}:password::" }]
    portMappings = [for port in var.port[*] : { containerPort = port, protocol = "tcp" }]
    # Longer than what is left to running activities, COAFI_DRAIN_TIMEOUT.
    stopTimeout = 60
  })

  health_check = {
    command     = ["CMD", "python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:${coalesce(var.port, 0)}${var.health_path}', timeout=4)"]
    interval    = 15
    timeout     = 5
    retries     = 3
    startPeriod = 60
  }
}

resource "aws_ecs_task_definition" "task" {
  family                   = var.family
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  container_definitions    = jsonencode([local.writer, merge(local.process, { for check in var.port[*] : "healthCheck" => local.health_check })])

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }

  ephemeral_storage {
    size_in_gib = var.storage
  }

  volume {
    name = "tmp"
  }

  volume {
    name = "home"

    dynamic "efs_volume_configuration" {
      for_each = var.file_system[*]

      content {
        file_system_id     = efs_volume_configuration.value.id
        transit_encryption = "ENABLED"

        authorization_config {
          access_point_id = efs_volume_configuration.value.access_point_id
          iam             = "ENABLED"
        }
      }
    }
  }
}
