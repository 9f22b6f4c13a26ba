#!/usr/bin/env bash
# deploy.sh IMAGE_TAG [OPTION…]: bring the service to an image: tables first, then the rest, and wait until it runs.
# Options, like -auto-approve or -var-file=prod.tfvars, are terraform's.
set -euo pipefail
tag=$1
shift
cd "$(dirname "$(realpath "$0")")"

# All that the migration needs, and no service.
terraform apply -var="image_tag=$tag" "$@" \
    -target=module.migrate -target=module.database -target=aws_ecs_cluster.coafi \
    -target=aws_vpc_security_group_egress_rule.internet -target=aws_vpc_security_group_egress_rule.database
cluster=$(terraform output -raw cluster_name)
task=$(aws ecs run-task --cluster "$cluster" --launch-type FARGATE \
    --task-definition "$(terraform output -raw migrate_task_definition)" \
    --network-configuration "$(terraform output -raw network_configuration)" \
    --query 'tasks[0].taskArn' --output text)
aws ecs wait tasks-stopped --cluster "$cluster" --tasks "$task"
code=$(aws ecs describe-tasks --cluster "$cluster" --tasks "$task" \
    --query "tasks[0].containers[?name=='migrate'].exitCode | [0]" --output text)
if [ "$code" != 0 ]; then
    echo "The tables were not brought up to date (exit code $code): see the streams migrate/ of the log group." >&2
    exit 1
fi
terraform apply -var="image_tag=$tag" "$@"
