output "bucket" {
  description = "Name of the bucket"
  value       = aws_s3_bucket.objects.bucket
}

output "bucket_arn" {
  description = "ARN of the bucket"
  value       = aws_s3_bucket.objects.arn
}
