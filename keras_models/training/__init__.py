"""Training: what Keras' fit needs of a model."""
