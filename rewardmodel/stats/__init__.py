"""Statistics of preferences: NumPy only, no torch, so that the web process may import them."""
