"""Finding grains: cutting frames into tiles, running a model, decoding its output."""
