resource "aws_ecs_service" "service" {
  name             = var.name
  cluster          = var.cluster_arn
  task_definition  = var.task_definition_arn
  desired_count    = var.min_replicas
  launch_type      = "FARGATE"
  platform_version = "LATEST"
  propagate_tags   = "SERVICE"

  # `terraform apply` ends when the tasks run, and fails when they do not.
  wait_for_steady_state = true

  # A single process gives its home to its successor before that one starts.
  deployment_minimum_healthy_percent = var.single ? 0 : 100
  deployment_maximum_percent         = var.single ? 100 : 200
  availability_zone_rebalancing      = var.single ? "DISABLED" : "ENABLED"

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = var.security_group_ids
    assign_public_ip = false
  }

  dynamic "load_balancer" {
    for_each = var.target[*]

    content {
      target_group_arn = load_balancer.value.group_arn
      container_name   = var.name
      container_port   = load_balancer.value.port
    }
  }

  health_check_grace_period_seconds = var.target == null ? null : 60

  # How many run is up to the scaling.
  lifecycle {
    ignore_changes = [desired_count]
  }
}

resource "aws_appautoscaling_target" "replicas" {
  service_namespace  = "ecs"
  resource_id        = "service/${var.cluster_name}/${aws_ecs_service.service.name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.min_replicas
  max_capacity       = var.max_replicas
}

resource "aws_appautoscaling_policy" "utilization" {
  for_each           = { ECSServiceAverageCPUUtilization = 70, ECSServiceAverageMemoryUtilization = 80 }
  name               = each.key
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.replicas.service_namespace
  resource_id        = aws_appautoscaling_target.replicas.resource_id
  scalable_dimension = aws_appautoscaling_target.replicas.scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value       = each.value
    scale_out_cooldown = 60
    scale_in_cooldown  = 300

    predefined_metric_specification {
      predefined_metric_type = each.key
    }
  }
}
