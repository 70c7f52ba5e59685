"""Recipes, optimizers, and the one place that calls model.fit."""
