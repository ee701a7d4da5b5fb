"""Authentication by tokens, JWTs of trusted issuers or a forwarding proxy, and authorization."""
