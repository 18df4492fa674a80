"""The S3 side without S3: one API call as a value (`calls`), and sequences of calls as generators (`flows`).

A shell performs each call that a flow yields, and sends the answer or throws the error into the flow.
"""
