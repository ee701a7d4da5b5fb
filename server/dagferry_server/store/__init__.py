"""Where deploy logs and bundles are kept: the contract, and the implementations of it."""
