"""The dags folder on this machine: how it is found, read and packed. Nothing here knows a server."""
