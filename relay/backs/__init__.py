"""What faces Tentacles."""
