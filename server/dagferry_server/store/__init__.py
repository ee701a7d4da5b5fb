"""Where deploy logs and bundles are kept: the contract, and its implementations."""
