"""Deploys: how they are received, checked, committed and kept. No HTTP."""
