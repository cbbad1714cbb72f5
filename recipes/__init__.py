"""Training recipes: Lightning modules, data, configurations, corpora."""
