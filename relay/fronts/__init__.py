"""What faces Octopus."""
