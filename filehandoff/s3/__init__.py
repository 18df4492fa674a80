"""S3 without I/O: API calls as values (`calls`), and their sequences as generators (`flows`).

A shell performs each call that a flow yields, and sends the result or throws the error into the flow.
"""
