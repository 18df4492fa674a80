"""Peers: apps as the documentation of other frameworks and libraries shows them.

Each takes the form field `file` at `/upload` and stores it in S3 under its name, with one client for the process and
no size limit. The hand-offs are compared with them.
"""
