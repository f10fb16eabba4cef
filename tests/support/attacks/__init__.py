"""Bad inputs for the ten points of issue 18, a module for each point; tests/support/attack.py tries them."""
