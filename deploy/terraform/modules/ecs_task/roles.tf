# Two roles for each process: one that starts it (image, logs, its secrets), one that it has itself (objects, its home).

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_iam_policy_document" "ecs" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${data.aws_partition.current.partition}:ecs:${var.region}:${data.aws_caller_identity.current.account_id}:*"]
    }
  }
}

# ---------------------------------------------------------------------- who starts it

data "aws_iam_policy_document" "execution" {
  #checkov:skip=CKV_AWS_356:a token of the registry is not of a resource; ECR knows no other way to ask for it
  statement {
    sid       = "RegistryToken"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "Image"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [var.repository_arn]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${var.log_group_arn}:log-stream:${var.name}/*"]
  }

  statement {
    sid       = "Secrets"
    actions   = ["ssm:GetParameters"]
    resources = values(var.secrets)
  }

  dynamic "statement" {
    for_each = var.password_secret_arn[*]

    content {
      sid       = "Password"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = [statement.value]
    }
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt"]
    resources = [var.key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = concat(["ssm.${var.region}.amazonaws.com"], [for arn in var.password_secret_arn[*] : "secretsmanager.${var.region}.amazonaws.com"])
    }
  }
}

resource "aws_iam_role" "execution" {
  name               = "${var.family}-execution"
  assume_role_policy = data.aws_iam_policy_document.ecs.json
}

resource "aws_iam_role_policy" "execution" {
  name   = "start"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

# ---------------------------------------------------------------------- what it may do itself

data "aws_iam_policy_document" "task" {
  # Without it S3 calls an object that is missing forbidden. A condition on prefixes would not match such requests.
  dynamic "statement" {
    for_each = var.objects[*]

    content {
      sid       = "Bucket"
      actions   = ["s3:ListBucket"]
      resources = [statement.value.bucket_arn]
    }
  }

  dynamic "statement" {
    for_each = var.objects[*]

    content {
      sid       = "Objects"
      actions   = concat(["s3:GetObject", "s3:PutObject"], statement.value.delete ? ["s3:DeleteObject"] : [])
      resources = ["${statement.value.bucket_arn}/${statement.value.prefix}/*"]
    }
  }

  dynamic "statement" {
    for_each = var.objects[*]

    content {
      sid       = "ObjectsKey"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [var.key_arn]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["s3.${var.region}.amazonaws.com"]
      }
    }
  }

  dynamic "statement" {
    for_each = var.file_system[*]

    content {
      sid       = "Home"
      actions   = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
      resources = [statement.value.arn]

      condition {
        test     = "StringEquals"
        variable = "elasticfilesystem:AccessPointArn"
        values   = [statement.value.access_point_arn]
      }
    }
  }
}

resource "aws_iam_role" "task" {
  name               = "${var.family}-task"
  assume_role_policy = data.aws_iam_policy_document.ecs.json
}

# Migrations need nothing but the database; a policy without statements is refused.
resource "aws_iam_role_policy" "task" {
  count  = var.objects == null ? 0 : 1
  name   = "work"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.task.json
}
