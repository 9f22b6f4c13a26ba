output "task_definition_arn" {
  description = "ARN of the task definition, with its revision"
  value       = aws_ecs_task_definition.task.arn
  depends_on  = [aws_iam_role_policy.execution, aws_iam_role_policy.task]
}
