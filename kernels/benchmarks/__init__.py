"""Every kernel against its peer, in one run on a GPU."""
