"""What turns text, pictures and sound into model inputs."""
