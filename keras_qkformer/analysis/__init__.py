"""What a trained model does: figures, and later firing rates and energy."""
