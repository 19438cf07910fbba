"""Verdict -> words for people (``terminal``) and for programs (``machine``)."""
