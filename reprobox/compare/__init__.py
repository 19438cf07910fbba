"""Two outputs -> difference: what was declared, what came out, what was expected -> findings. Starts nothing."""
