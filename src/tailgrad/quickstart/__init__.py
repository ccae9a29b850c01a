"""tailgrad.quickstart."""
