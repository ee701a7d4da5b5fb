"""What answers each call. A handler gets a ``Call``, in which route, deployment and caller are decided already."""
