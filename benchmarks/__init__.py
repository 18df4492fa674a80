"""Measure uploads to both apps and their peers, over HTTP."""
