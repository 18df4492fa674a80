"""Run an S3 server and both apps on one machine, for the demo and tests."""
