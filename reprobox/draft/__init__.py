"""A folder -> the first draft of its reprobox.yaml: ``look`` reads, ``compose`` decides (pure)."""
