"""Put a long-running job on your Lock Screen."""
