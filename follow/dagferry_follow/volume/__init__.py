"""The dags folder on disk: trees, their records, and the link that is swapped."""
