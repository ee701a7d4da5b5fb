"""Imports DAG files in Airflow's own environment before they are live: the command ``dagferry-checker``."""
