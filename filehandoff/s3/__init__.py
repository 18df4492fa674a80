"""S3 without I/O: single API calls as values (`calls`), and sequences of calls as generators (`flows`).

A shell performs each call that a flow yields, and sends the result or throws the error into the flow.
"""
