"""What people write who do not know this project: each file an app that takes a form's `file` at `/upload` into S3.

Each is written as the documentation of its framework and its S3 library tells a user to, with one client for the whole
process, no limit on the size, and the file's name as its key. They are what the hand-offs are compared with.
"""
