"""Everything on one machine: an S3 server and both apps, for the demo, for `make serve` and for the tests."""
