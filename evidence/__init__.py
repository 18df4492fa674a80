"""Run everything again on one commit, and write the figures of the documentation: `make evidence`."""
