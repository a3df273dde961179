"""Explain one flow run: gather the facts from server and cluster, then explain its state."""
