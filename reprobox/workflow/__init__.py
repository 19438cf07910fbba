"""The verbs, in order, one module for those that belong together: each takes a project's folder and a console, and
returns what happened."""
