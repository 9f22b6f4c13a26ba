resource "aws_security_group" "load_balancer" {
  name        = "${var.name}-load-balancer"
  description = "Load balancer of the COAFI Event Handlers"
  vpc_id      = var.vpc_id
}

# http is answered with a redirection to https.
resource "aws_vpc_security_group_ingress_rule" "clients" {
  #checkov:skip=CKV_AWS_260:port 80 only redirects to https
  for_each          = { for pair in setproduct(var.client_cidr_blocks, [80, 443]) : "${pair[0]}:${pair[1]}" => pair }
  security_group_id = aws_security_group.load_balancer.id
  description       = "Requests"
  cidr_ipv4         = each.value[0]
  from_port         = each.value[1]
  to_port           = each.value[1]
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "gateway" {
  security_group_id            = aws_security_group.load_balancer.id
  description                  = "Gateways"
  referenced_security_group_id = var.target_security_group_id
  from_port                    = var.target_port
  to_port                      = var.target_port
  ip_protocol                  = "tcp"
}

resource "aws_lb" "gateway" {
  #checkov:skip=CKV2_AWS_28:var.web_acl_arn adds one; rules that others have by default refuse bodies above 8 KiB, as webhooks have them
  #checkov:skip=CKV2_AWS_76:there is no Java here
  name                       = var.name
  load_balancer_type         = "application"
  internal                   = var.internal
  subnets                    = var.subnet_ids
  security_groups            = [aws_security_group.load_balancer.id]
  drop_invalid_header_fields = true
  enable_deletion_protection = true

  # Longer than a caller of the API may wait for an answer, and shorter than gateways keep idle connections.
  idle_timeout = 75

  access_logs {
    bucket  = var.log_bucket
    prefix  = "load-balancer"
    enabled = true
  }
}

# Whether the process answers, not whether database and Temporal do: tasks that are well must not be replaced while one of
# these is away. What they cannot do then is answered with 503.
resource "aws_lb_target_group" "gateway" {
  #checkov:skip=CKV_AWS_378:TLS ends at the load balancer; within the VPC the gateway speaks http, to this security group only
  name                 = var.name
  vpc_id               = var.vpc_id
  target_type          = "ip"
  port                 = var.target_port
  protocol             = "HTTP"
  deregistration_delay = 30

  health_check {
    path                = var.health_check_path
    matcher             = "200"
    interval            = 15
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.gateway.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.gateway.arn
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.gateway.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"

    redirect {
      port        = "443"
      protocol    = "HTTPS"
      status_code = "HTTP_301"
    }
  }
}

# Metrics name subscribers, peers and events: those who collect them ask the tasks themselves.
resource "aws_lb_listener_rule" "metrics" {
  listener_arn = aws_lb_listener.https.arn
  priority     = 1

  condition {
    path_pattern {
      values = ["/metrics"]
    }
  }

  action {
    type = "fixed-response"

    fixed_response {
      content_type = "text/plain"
      message_body = "Not found"
      status_code  = "404"
    }
  }
}

resource "aws_wafv2_web_acl_association" "gateway" {
  count        = var.web_acl_arn == null ? 0 : 1
  resource_arn = aws_lb.gateway.arn
  web_acl_arn  = var.web_acl_arn
}
