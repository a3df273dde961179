"""Making a model: settings, identity, the pictures as the model sees them, and the run itself."""
