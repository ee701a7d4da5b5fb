"""Who calls and what they may do: tokens, JWTs of trusted issuers, a forwarding proxy, and the one decision."""
