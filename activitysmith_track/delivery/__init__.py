"""What brings states, ends and pushes to the service, and whatever keeps them until they have arrived."""
