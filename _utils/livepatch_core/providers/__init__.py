"""One face for the systems that patch a running kernel, whoever made them."""
