"""The handlers: one for each endpoint. A ``RequestContext`` tells it the route, the deployment and the caller."""
