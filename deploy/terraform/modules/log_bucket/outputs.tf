output "name" {
  description = "Name of the bucket, which takes logs from now on"
  value       = aws_s3_bucket_policy.logs.bucket
}
