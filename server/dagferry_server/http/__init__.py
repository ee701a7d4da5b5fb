"""What the server says over HTTP. The only place that knows requests and builds answers."""
