"""Find grains: tiles, models and what they find."""
