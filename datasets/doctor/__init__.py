"""What is missing or wrong about datasets, and how to fix it."""
