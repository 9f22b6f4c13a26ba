# The parameters are made here, their values never: whoever operates the service puts them there with
# `aws ssm put-parameter --overwrite`, and neither they nor what stands there at first get into the state.

resource "aws_ssm_parameter" "secret" {
  for_each         = var.names
  name             = "${var.prefix}/${lower(replace(trimprefix(each.key, "COAFI_"), "_", "-"))}"
  description      = "${each.key} of the COAFI Event Handlers"
  type             = "SecureString"
  tier             = "Intelligent-Tiering"
  key_id           = var.key_arn
  value_wo         = "unset"
  value_wo_version = 1
}
