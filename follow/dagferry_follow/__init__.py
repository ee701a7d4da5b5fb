"""Everything that follows a server: shared by the sidecar and the Airflow plugin, without asyncio or a framework."""
