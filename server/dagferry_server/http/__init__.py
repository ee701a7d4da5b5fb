"""The HTTP interface of the server: the only package that knows requests and builds responses."""
