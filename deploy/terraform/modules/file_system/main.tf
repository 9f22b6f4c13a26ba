# The listener's home: the ledger's last checkpoint is kept there, apart from the database.

resource "aws_efs_file_system" "home" {
  encrypted  = true
  kms_key_id = var.key_arn

  tags = {
    Name = "${var.name}-listener"
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_security_group" "home" {
  name        = "${var.name}-file-system"
  description = "File system of the COAFI Event Handlers"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "tasks" {
  security_group_id            = aws_security_group.home.id
  description                  = "Tasks of the service"
  referenced_security_group_id = var.client_security_group_id
  from_port                    = 2049
  to_port                      = 2049
  ip_protocol                  = "tcp"
}

resource "aws_efs_mount_target" "home" {
  for_each        = toset(var.subnet_ids)
  file_system_id  = aws_efs_file_system.home.id
  subnet_id       = each.key
  security_groups = [aws_security_group.home.id]
}

resource "aws_efs_access_point" "home" {
  file_system_id = aws_efs_file_system.home.id

  posix_user {
    uid = 10001
    gid = 10001
  }

  root_directory {
    path = "/listener"

    creation_info {
      owner_uid   = 10001
      owner_gid   = 10001
      permissions = "0700"
    }
  }
}

# Without a statement that allows it nobody may mount it; the listener's role has one, for this access point.
data "aws_iam_policy_document" "home" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["*"]
    resources = [aws_efs_file_system.home.arn]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_efs_file_system_policy" "home" {
  file_system_id = aws_efs_file_system.home.id
  policy         = data.aws_iam_policy_document.home.json
}
