"""The riverrun command line."""
