"""The sidecar: follows one deployment of a Dagferry server and publishes it to a folder."""
