"""HTTP to a server, for whatever follows one: the connection, the requests, the download."""
