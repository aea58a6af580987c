"""Generation: settings, logits processors, searches, stopping and streaming; `generate` is a method of models."""
