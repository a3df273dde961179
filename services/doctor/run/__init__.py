"""Explain one flow run: gather the facts, then say why it is where it is."""
