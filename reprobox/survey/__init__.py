"""A folder's files -> what they say, with lines: Dockerfiles, definition files, notebooks, shell commands."""
