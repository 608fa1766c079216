"""What happens to one request between the HTTP face and an upstream."""
