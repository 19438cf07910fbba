"""What cannot be reproduced as it stands: a folder's files -> findings, each with what to do about it.

A linter that cries wolf is turned off: where a file leaves a doubt, nothing is said.
"""
