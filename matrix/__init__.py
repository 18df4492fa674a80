"""Which versions of Flask and Quart close a file too early, by which cause, and what helps: run for real."""
