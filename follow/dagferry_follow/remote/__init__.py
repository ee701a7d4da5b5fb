"""HTTP to a server, for everything that follows one: the connection, the requests, the download."""
