"""How the stand-in models are made."""
