"""What a speech model is: audio, features, attention, encoders, losses, search, models, bundles."""
