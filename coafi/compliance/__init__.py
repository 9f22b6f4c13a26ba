"""What does not comply: findings on entities of registries, documents, and whatever else has an id."""
