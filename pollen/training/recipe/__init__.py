"""The recipe of the bundled model: scenes made of real grains, trained in stages."""
