"""Simulations of mediadht networks that run the real `mediadht.core`."""
